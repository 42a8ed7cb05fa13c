"""Openings, interludes and endings of the story grammar: what stands around the threads and distracts from them."""

from __future__ import annotations

from evomix.corpus import words

OPENINGS = (
    "Once upon a time, there was a {trait} {kind} named {hero}. {hero} had a friend called {friend}.",
    "One {weather} day, {hero} and {friend} went to the {place}. {hero} was a {trait} {kind}.",
    "{hero} was a {trait} little {kind} who lived near the {place}. {his} best friend was {friend}.",
    "There once was a {kind} called {hero}. {hero} was {trait}, but {friend}, the other {kind}, was {trait2}.",
    'It was a {weather} morning. "Wake up, {hero}!" said {elder_the}. {hero} was a {trait} {kind}, and today {friend} '
    "would come.",
    "In a small house by the {place} lived a {kind}. {his} name was {hero}. {hero} liked to {action} with {friend}.",
    "{friend} came to see {hero}, the {trait} {kind}. It was {weather}, and they wanted to {action}.",
    "Long ago, a {trait} {kind} named {hero} wanted to see the {place}. {friend} wanted to come too.",
)

INTERLUDES = (
    "They went to the {place} to {action}. It was a {weather} day.",
    "{hero} felt {mood}, but {friend} felt {mood2}.",
    "A {helper} ran past the {place}. It was very {mood}.",
    '"Do you want to {action}?" asked {friend}. "Yes, I do!" said {hero}.',
    "It became {weather}. {hero} and {friend} sat down and ate some {food}.",
    "{friend} fell into the mud. {hero} laughed, and then {friend} laughed too.",
    "They saw a {color} {thing} in a window, but they did not buy it.",
    "At the {place}, {stranger} waved at them. They waved back.",
    "{hero} tried to {action}. It was hard, but {he} tried again.",
    '"I am {mood}," said {friend}. "Let us {action}," said {hero}.',
    "A big {helper} looked at them with {color} eyes. {friend} was {mood}.",
    "{hero} gave {friend} half of the {food}. They were both {mood}.",
    "They walked and walked until they came to the {place}. There were {plural} everywhere.",
    "{friend} told a funny story about a {helper} and a {tool}.",
    "The wind blew hard. A {thing} flew through the air and landed in the {place}.",
    "For a while {hero} only wanted to {action}. {friend} was {mood} and waited.",
    "{stranger} was {mood} that day and did not say a word.",
    "They took a nap. {hero} dreamed of a {color} {helper} made of {material}.",
)

ENDINGS = (
    "{hero} and {friend} were {mood_good}. That day {hero} learned {lesson}.",
    "From that day on, {hero} and {friend} went to the {place} every week.",
    "And {hero}, the {trait} {kind}, slept well that night.",
    '"This was the best day," said {hero}. {friend} smiled. The {kind} had learned {lesson}.',
    "{elder_the} gave {hero} a big hug. {friend} got one too. They lived happily ever after.",
    'When the stars came out, {friend} said, "Good night, {hero}." It was always good {lesson}.',
    "They went home and told {elder_the} everything. {elder_the} was {mood_good}.",
    "So {hero} remembered {lesson}, and {friend} never forgot it either.",
)

POOLS: dict[str, tuple[str, ...]] = {
    "trait2": words.TRAITS,
    "weather": words.WEATHER,
    "place": words.PLACES,
    "action": words.ACTIONS,
    "mood": words.MOODS,
    "mood2": words.MOODS,
    "mood_good": ("happy", "proud", "glad", "merry", "full of joy"),
    "helper": words.HELPERS,
    "food": words.FOODS,
    "color": words.COLORS,
    "thing": words.THINGS,
    "stranger": words.STRANGERS,
    "plural": words.PLURALS,
    "tool": words.TOOLS,
    "material": words.MATERIALS,
    "lesson": words.LESSONS,
}
