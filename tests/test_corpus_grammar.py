"""The story grammar: deterministic, never twice the same, and with something for attention to find."""

from __future__ import annotations

import re
import subprocess
import sys

from evomix.artifacts import digest_text
from evomix.corpus.grammar import compose, stories

STORIES = [compose(1, index) for index in range(10_000)]


def test_no_two_equal_stories_in_ten_thousand() -> None:
    assert len({story.text for story in STORIES}) == 10_000


def test_stories_are_a_pure_function_of_seed_and_index() -> None:
    assert list(stories(1, 50)) == [story.text for story in STORIES[:50]]
    assert compose(1, 9_999) == STORIES[9_999]
    assert compose(2, 0) != compose(1, 0)
    code = "from evomix.corpus.grammar import stories; print('\\n'.join(stories(1, 50)))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert digest_text(other) == digest_text("\n".join(stories(1, 50)) + "\n")


def test_what_is_told_early_is_recalled_late() -> None:
    distances = []
    for story in STORIES[:2_000]:
        *early, late = story.text.lower().split("\n\n")
        assert len(early) == 2
        for word in story.recalled:
            assert word.lower() in early[0], (word, story.text)
            assert word.lower() in late, (word, story.text)
            distances.append(len((early[0][early[0].rfind(word.lower()) :] + early[1]).split()))
    assert sum(distances) / len(distances) > 25, "words between the last mention and the part that recalls it"


def test_recalled_words_cannot_be_guessed_from_their_neighbours() -> None:
    """After the words before a recall alone, the best guess is right less than a fifth of the time."""
    followers: dict[str, list[str]] = {}
    for story in STORIES:
        late = story.text.split("\n\n")[2]
        for match in re.finditer(r"(to play with the|front of the|brought the|house by the|I saw) (\w+)", late):
            followers.setdefault(match[1], []).append(match[2])
    assert len(followers) == 5
    for context, words in followers.items():
        best = max(words.count(word) for word in set(words)) / len(words)
        assert best < 0.2, (context, best)
        assert len(words) > 100


def test_text_is_clean() -> None:
    for story in STORIES[:2_000]:
        assert not re.search(r"[{}]|  |\ba [aeiou]|\s$", story.text), story.text
        assert not re.search(r"(?:^|[.] |\n)[a-z]", story.text), story.text
    lengths = [len(story.text.split()) for story in STORIES]
    assert 80 < sum(lengths) / len(lengths) < 250
    assert len({word for story in STORIES for word in story.text.split()}) > 1_500
