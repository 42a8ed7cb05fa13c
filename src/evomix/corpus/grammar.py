"""Our own story grammar: an unlimited, offline, deterministic corpus in the manner of TinyStories.

A story has a cast (hero, friend, elder), two or three threads (evomix.corpus.threads) whose set-ups come early and
whose pay-offs come late and in another order, and interludes between them. What a pay-off recalls (which kite, which
door, how many ducks) can only be predicted by looking back over the story: a mixer with long reach has something to
find.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evomix.corpus import words
from evomix.corpus.scenes import ENDINGS, INTERLUDES, OPENINGS, POOLS
from evomix.corpus.threads import THREADS
from evomix.streams import derive

_PRONOUNS = {"girl": ("she", "her", "her"), "boy": ("he", "him", "his")}
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])")
_SENTENCE = re.compile(r"(?:^|(?<=[.!?] )|(?<=\.\" )|(?<=\n)|(?<=\n\")|(?<= \")|^\")[a-z]")


@dataclass(frozen=True)
class Story:
    """A story and the words that its pay-offs recall from its set-ups."""

    text: str
    recalled: tuple[str, ...]


class _Draw:
    """Draws without replacement within one story, so that a distractor never equals what must be recalled."""

    def __init__(self, seed: int, index: int) -> None:
        self._random = random.Random(derive(seed, "story", index)).random
        self._taken: set[str] = set()

    def below(self, limit: int) -> int:
        """Return an integer in 0..limit-1 (from `random()`, the one method Python promises never to change)."""
        return int(self._random() * limit)

    def any(self, pool: Sequence[str]) -> str:
        """Return any entry."""
        return pool[self.below(len(pool))]

    def fresh(self, pool: Sequence[str]) -> str:
        """Return an entry that this story has not used."""
        left = [entry for entry in pool if entry not in self._taken] or list(pool)
        entry = self.any(left)
        self._taken.add(entry)
        return entry

    def sample(self, length: int, count: int) -> list[int]:
        """Return `count` different integers below `length` in random order."""
        items = list(range(length))
        return [items.pop(self.below(len(items))) for _ in range(count)]


def _cast(draw: _Draw) -> dict[str, str]:
    """Choose hero, friend and elder."""
    kind = draw.any(words.KINDS)
    gender = kind if kind in _PRONOUNS else draw.any(("girl", "boy"))
    he, him, his = _PRONOUNS[gender]
    elder = draw.any(words.ELDERS)
    hero = draw.fresh(words.GIRLS if gender == "girl" else words.BOYS)
    return {
        "kind": kind,
        "hero": hero,
        "he": he,
        "him": him,
        "his": his,
        "friend": draw.fresh(words.GIRLS + words.BOYS),
        "elder": elder,
        "elder_the": f"{his} {elder}",
        "trait": draw.fresh(words.TRAITS),
    }


class _Slots(dict[str, str]):
    """Slots of a scene: the cast, and everything else drawn when it is first needed."""

    def __init__(self, cast: dict[str, str], draw: _Draw) -> None:
        super().__init__(cast)
        self._draw = draw

    def __missing__(self, slot: str) -> str:
        self[slot] = self._draw.fresh(POOLS[slot])
        return self[slot]


def compose(seed: int, index: int) -> Story:
    """Return story `index` of the corpus `seed`, a pure function of both."""
    draw = _Draw(seed, index)
    cast = _cast(draw)

    def scene(templates: tuple[str, ...]) -> str:
        return draw.any(templates).format_map(_Slots(cast, draw))

    threads = [THREADS[number] for number in draw.sample(len(THREADS), 2 + draw.below(2))]
    fillings = [{slot: draw.fresh(pool) for slot, pool in thread.slots.items()} for thread in threads]
    beginning, end = [scene(OPENINGS)], []
    for thread, filling in zip(threads, fillings, strict=True):
        beginning.append(draw.any(thread.setups).format_map(cast | filling))
        if draw.below(2):
            beginning.append(scene(INTERLUDES))
    middle = [scene(INTERLUDES) for _ in range(1 + draw.below(3))]
    for number in draw.sample(len(threads), len(threads)):
        end.append(draw.any(threads[number].payoffs).format_map(cast | fillings[number]))
    end.append(scene(ENDINGS))
    text = "\n\n".join(" ".join(part) for part in (beginning, middle, end))
    text = _SENTENCE.sub(lambda match: match.group().upper(), _ARTICLE.sub(r"\1n ", text))
    recalled = tuple(
        filling[slot] for thread, filling in zip(threads, fillings, strict=True) for slot in thread.recalled
    )
    return Story(text, recalled)


def stories(seed: int, count: int) -> Iterator[str]:
    """Yield the first `count` stories of the corpus `seed`."""
    for index in range(count):
        yield compose(seed, index).text
