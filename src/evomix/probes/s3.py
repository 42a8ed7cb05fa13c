"""Word problem of S₃: multiply permutations of three things, saying the product after each.

Merrill, Petty and Sabharwal 2024 (arXiv 2404.08819), after Liu et al. 2023 (arXiv 2210.10749): the smallest group that
does not commute, so that counting no longer helps; order must be tracked. Product so far: p_t = g_t ∘ p_{t−1}.
Chance: 1/6.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from evomix.probes.settings import ProbeTask
from evomix.probes.task import Task, Tokens

ELEMENTS = list(permutations(range(3)))
FIRST_ANSWER = len(ELEMENTS)
PRODUCT = np.array([[ELEMENTS.index(tuple(g[i] for i in p)) for p in ELEMENTS] for g in ELEMENTS])
"""Number of g ∘ p by the numbers of g and p; 0 is the identity."""


def make(setting: ProbeTask) -> Task:
    """Return the task; it has no settings of its own."""

    def draw(stream: np.random.Generator, rows: int, length: int) -> tuple[Tokens, Tokens]:
        word = stream.integers(0, len(ELEMENTS), (rows, length))
        targets, product = np.empty_like(word), np.zeros(rows, dtype=np.int64)
        for place in range(length):
            product = PRODUCT[word[:, place], product]
            targets[:, place] = FIRST_ANSWER + product
        return word, targets

    return Task("S₃ word problem", 2 * len(ELEMENTS), 1 / len(ELEMENTS), draw)
