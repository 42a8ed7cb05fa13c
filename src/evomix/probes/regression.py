"""In-context linear regression: pairs (x, w·x) of an unknown w; predict the next y.

Garg et al. 2022 (arXiv 2208.01066, section 3) with real vectors read in through a linear map. Here x and w lie on the
hypercube {−1, 1}ᵈ (as the Boolean functions of Bhattamishra et al. 2023, arXiv 2310.03016), because the shell reads
tokens: every x is one of 2ᵈ tokens, y one of d + 1, and the answer is right or wrong. The embedding has to learn the
coordinates of x first, so this is harder than the original, alike for every variant.

Row: x₁ y₁ x₂ y₂ …; y is asked at every x after the first `SEEN` pairs. Chance: the most frequent y (0, or ±1 for odd
d). Ceiling: the most probable y given the pairs so far, by counting all w that agree with them.
"""

from __future__ import annotations

import math

import numpy as np

from evomix.corpus.tokens import IGNORED
from evomix.probes.settings import ProbeTask
from evomix.probes.task import Task, Tokens
from evomix.streams import numpy_stream

SEEN = 4
"""Pairs that come before the first question."""
_CEILING_ROWS = 2_000


def corners(dimensions: int) -> Tokens:
    """Return all points of the hypercube, (2ᵈ, d): point i has the bits of i."""
    return 1 - 2 * ((np.arange(2**dimensions)[:, None] >> np.arange(dimensions)) & 1)


def _pairs(stream: np.random.Generator, rows: int, pairs: int, products: Tokens) -> tuple[Tokens, Tokens]:
    """Return numbers of points x (n, pairs) and values y = w·x in −d … d (n, pairs)."""
    x = stream.integers(0, len(products), (rows, pairs))
    w = stream.integers(0, len(products), (rows, 1))
    return x, products[w, x]


def ceiling(length: int, products: Tokens) -> float:
    """Return the accuracy of the most probable answer, by simulation from a fixed stream (error about 0.002)."""
    x, y = _pairs(numpy_stream(0, "regression", "ceiling"), _CEILING_ROWS, length // 2, products)
    possible = np.ones((_CEILING_ROWS, len(products)), dtype=bool)  # w that agree with the pairs so far
    right = []
    for pair in range(length // 2):
        predicted = products[:, x[:, pair]].T  # (n, w): the answer that each w would give
        if pair >= SEEN:
            votes = np.stack([(possible & (predicted == value)).sum(-1) for value in np.unique(products)])
            right.append(votes.max(0) / votes.sum(0))
        possible &= predicted == y[:, pair, None]
    return float(np.mean(right))


def make(setting: ProbeTask) -> Task:
    """Return the task in `items` dimensions."""
    d = setting.items
    points = corners(d)
    products = points @ points.T

    def draw(stream: np.random.Generator, rows: int, length: int) -> tuple[Tokens, Tokens]:
        x, y = _pairs(stream, rows, length // 2, products)
        answers = 2**d + (y + d) // 2
        inputs = np.zeros((rows, length), dtype=np.int64)
        targets = np.full((rows, length), IGNORED, dtype=np.int64)
        inputs[:, 0 : 2 * x.shape[1] : 2], inputs[:, 1 : 2 * x.shape[1] : 2] = x, answers
        targets[:, 2 * SEEN : 2 * x.shape[1] : 2] = answers[:, SEEN:]
        return inputs, targets

    title = f"In-context regression, {d} dimensions"
    chance = math.comb(d, d // 2) / 2**d
    return Task(title, 2**d + d + 1, chance, draw, ceiling(setting.lengths[0], products))
