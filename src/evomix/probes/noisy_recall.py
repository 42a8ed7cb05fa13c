"""Noisy recall: a stream of key–value pairs with noise between them; answer every key that has been seen before.

Poli et al. 2024 (MAD, arXiv 2403.17844, noisy in-context recall): noise tokens have a vocabulary of their own, so a
mixer can learn to keep them out of its state. Each row draws its own map from D keys to D values; pairs draw their key
with replacement, and a key is asked from its second time on.

Row: pairs and noise tokens in random order, pairs kept together. Chance: one of the row's D values.
"""

from __future__ import annotations

import numpy as np

from evomix.corpus.tokens import IGNORED
from evomix.probes.settings import ProbeTask
from evomix.probes.task import Task, Tokens, permutations

KEYS, VALUES, NOISE = 16, 16, 16
FIRST_VALUE, FIRST_NOISE = KEYS, KEYS + VALUES


def make(setting: ProbeTask) -> Task:
    """Return the task with `items` keys in a row and a share `noise` of noise tokens."""
    keys = setting.items

    def draw(stream: np.random.Generator, rows: int, length: int) -> tuple[Tokens, Tokens]:
        pairs = round(length * (1 - setting.noise)) // 2
        units = length - pairs  # a pair is one unit of two tokens, a noise token one of one
        kinds = permutations(stream, rows, units, units) < pairs
        starts = np.cumsum(1 + kinds, -1) - (1 + kinds)
        names = permutations(stream, rows, KEYS, keys)
        values = FIRST_VALUE + permutations(stream, rows, VALUES, keys)
        chosen = stream.integers(0, keys, (rows, pairs))
        key, value = np.take_along_axis(names, chosen, 1), np.take_along_axis(values, chosen, 1)
        inputs = FIRST_NOISE + stream.integers(0, NOISE, (rows, length))
        targets = np.full((rows, length), IGNORED, dtype=np.int64)
        places = starts[kinds].reshape(rows, pairs)
        np.put_along_axis(inputs, places, key, 1)
        np.put_along_axis(inputs, places + 1, value, 1)
        before = np.tril(chosen[:, :, None] == chosen[:, None, :], -1).any(-1)
        np.put_along_axis(targets, places, np.where(before, value, IGNORED), 1)
        return inputs, targets

    title = f"Noisy recall, {keys} keys, {setting.noise:.0%} noise"
    return Task(title, KEYS + VALUES + NOISE, 1 / keys, draw)
