"""Threads of the story grammar: something is told early and must be recalled late.

A thread has slots (pool of words each), one or more set-ups that mention every slot and one or more pay-offs that
mention the recalled slots again, where nothing nearby gives them away. `hero`, `friend`, `elder` and the hero's
pronouns `he`, `him`, `his` are the same in all threads of a story.
"""

from __future__ import annotations

from dataclasses import dataclass

from evomix.corpus import words


@dataclass(frozen=True)
class Thread:
    """Slots to fill and the sentences that tell and recall them; `recalled` slots stand in every pay-off."""

    slots: dict[str, tuple[str, ...]]
    recalled: tuple[str, ...]
    setups: tuple[str, ...]
    payoffs: tuple[str, ...]


THREADS = (
    Thread(  # a treasure is put somewhere and found there
        {"color": words.COLORS, "thing": words.THINGS, "spot": words.SPOTS},
        ("color", "thing", "spot"),
        (
            "{hero}'s {elder} gave {him} a {color} {thing}. {hero} loved the {color} {thing} more than anything, so "
            "{he} "
            "hid it {spot}.",
            "That morning {hero} found a {color} {thing}. It was too heavy to carry, so {he} left it {spot}.",
            '"Keep this safe," said {elder_the} and gave {hero} a {color} {thing}. {hero} put it {spot}.',
        ),
        (
            'Then {hero} wanted to play with the {color} {thing}. "Where did I leave it?" {he} asked. "You left it '
            '{spot}," said {friend}. They ran and looked {spot}, and there was the {color} {thing}.',
            '"Where is your {color} {thing}?" asked {friend}. {hero} thought for a while. "It is {spot}!" {he} said, '
            "and "
            "{he} was right.",
            'In the evening {hero} went to look {spot}. "I did not forget you," {he} said to the {color} {thing}.',
        ),
    ),
    Thread(  # a secret word opens a door
        {"secret": words.SECRETS, "stranger": words.STRANGERS, "place": words.PLACES, "color": words.COLORS},
        ("secret", "color"),
        (
            'On the way they met {stranger}. "The {color} door at the {place} opens only for a secret word," '
            'said {stranger}. "The word is {secret}."',
            '"If you ever come to the {color} door, say {secret}," whispered {stranger} near the {place}.',
        ),
        (
            'Soon they stood in front of the {color} door. It was closed. "I know the word," said {hero}. "{secret}!" '
            "And the {color} door opened.",
            "The {color} door did not open. {friend} pushed and pulled. Then {hero} remembered the word and said, "
            '"{secret}!" The door opened with a click.',
        ),
    ),
    Thread(  # something is counted
        {"number": words.NUMBERS, "plural": words.PLURALS, "place": words.PLACES},
        ("number", "plural"),
        (
            "Near the {place} {hero} counted the {plural}. There were {number} {plural}.",
            '"Look, {number} {plural}!" said {friend} when they passed the {place}.',
        ),
        (
            '"How many {plural} did you see today?" asked {elder_the}. "I saw {number} {plural}," said {hero}.',
            "At night {hero} drew a picture of the {plural}. {he} drew all of them, and there were {number}.",
        ),
    ),
    Thread(  # a promise is kept
        {"stranger": words.STRANGERS, "food": words.FOODS},
        ("stranger", "food"),
        (
            'At the corner stood {stranger}. "I am so hungry for some {food}," said {stranger}. {hero} promised to '
            "bring "
            "some.",
            '{hero} wanted to visit {stranger}. "Please bring me some {food}," {stranger} had said, and {hero} had '
            "promised it.",
        ),
        (
            "{hero} did not forget the promise. {he} took some {food} and gave it to {stranger}.",
            'There was one more thing to do. "I promised it," said {hero}, and {he} carried the {food} to {stranger}.',
        ),
    ),
    Thread(  # something is lent and given back
        {"color": words.COLORS, "tool": words.TOOLS, "stranger": words.STRANGERS},
        ("color", "tool", "stranger"),
        (
            "They needed a {tool}, and {stranger} lent them a {color} one.",
            '"May I use your {color} {tool}?" asked {hero}. "Yes, but bring it back," said {stranger}.',
        ),
        (
            "When all the work was done, {hero} brought the {color} {tool} back to {stranger}.",
            '"Whose is this {color} {tool}?" asked {friend}. "It belongs to {stranger}," said {hero}. So they gave it '
            "back.",
        ),
    ),
    Thread(  # a small animal is helped and helps
        {"pet": words.PETS, "helper": words.HELPERS, "color": words.COLORS, "body": words.BODY, "spot": words.SPOTS},
        ("pet", "helper", "color", "body"),
        (
            'They heard a small voice. A {helper} with {color} {body} was stuck {spot}. {hero} helped it. "My name is '
            '{pet}," said the {helper}. "Thank you!"',
            'A {helper} named {pet} was crying {spot}, because everybody laughed at its {color} {body}. "I think your '
            '{color} {body} are lovely," said {hero}.',
        ),
        (
            "Suddenly they were lost. But who was that? It was {pet}, the {helper} with the {color} {body}! {pet} "
            "showed "
            "them the way.",
            'Someone knocked at the door. {hero} saw {color} {body} and knew at once who it was. "Hello, {pet}!" {he} '
            "said to the {helper}.",
        ),
    ),
    Thread(  # a song is learnt and sung again
        {"stranger": words.STRANGERS, "one": words.SYLLABLES, "two": words.SYLLABLES, "three": words.SYLLABLES},
        ("one", "two", "three"),
        (
            'In the street {stranger} sang a song: "{one} {two} {three}, {one} {two} {three}!"',
            '{friend} had learned a new song from {stranger}. It went, "{one} {two} {three}, {two} {three} {one}!"',
        ),
        (
            'On the way home {hero} and {friend} sang the song together: "{one} {two} {three}!"',
            '{hero} could not sleep. So {friend} sang the song of the day, very softly: "{one} {two} {three}."',
        ),
    ),
    Thread(  # a list is bought
        {"first": words.FOODS, "second": words.FOODS, "third": words.FOODS, "place": words.PLACES},
        ("first", "second", "third"),
        (
            '"Please get me {first}, {second} and {third}," said {elder_the}.',
            "For the picnic at the {place} they needed {first}, {second} and {third}.",
        ),
        (
            '"Did you get everything?" asked {elder_the}. "Yes," said {hero}. "Here are {first}, {second} and '
            '{third}."',
            "At last they sat down to eat. There were {first}, {second} and {third}, just as they had planned.",
        ),
    ),
    Thread(  # a house is found again
        {"color": words.COLORS, "material": words.MATERIALS, "place": words.PLACES},
        ("color", "material", "place"),
        (
            "{friend} lived in a {color} house near the {place}. Its roof was made of {material}.",
            '"My house is the {color} one by the {place}, with the roof of {material}," {friend} had told {him}.',
        ),
        (
            'It was getting dark. "Look for the {color} house by the {place}," said {hero}. Soon they saw the roof of '
            "{material}.",
            "They walked to {friend}'s home by the {place}. There it was: the {color} walls and the roof of "
            "{material}.",
        ),
    ),
    Thread(  # things change hands
        {"thing": words.THINGS, "other": words.THINGS, "pet": words.PETS},
        ("thing", "other", "pet"),
        (
            "{hero} had a {thing}, and little {pet} had a {other}. They traded. Now {hero} had the {other}, and {pet} "
            "had "
            "the {thing}.",
            '"I will give you my {thing} for your {other}," said {hero} to a kid called {pet}. {pet} said yes.',
        ),
        (
            'Later {pet} came back and cried. "I miss my {other}," said {pet}. {hero} was kind. {he} gave {pet} the '
            "{other} and got the {thing} back.",
            '"Who has your {thing} now?" asked {elder_the}. "I gave it to {pet}, and {pet} gave me a {other}," said '
            "{hero}.",
        ),
    ),
)
