"""Multi-query associative recall: read key–value pairs, then answer for every key, in any order, after any delay.

Arora et al. 2023 (Zoology, arXiv 2312.04927): the ability that separates attention from gated convolutions and small
recurrent states. As there, pairs come first and every key is asked once, at the query itself and without its answer
among the inputs; the queries lie uniformly among blanks (there: by a power law), and the vocabulary grows with the
pairs (there: 8,192 tokens). Softmax with 4 pairs at the settings of preset paper, seed 1, one CPU thread: accuracy
0.25 after 300 steps, 0.36 after 500, 0.98 after 750, 0.99 after 800 of 12,500.

Row: k₁ v₁ … k_D v_D, then D queries among blanks. Chance: one of the D values that the row holds.
"""

from __future__ import annotations

import numpy as np

from evomix.corpus.tokens import IGNORED
from evomix.probes.settings import ProbeTask
from evomix.probes.task import Task, Tokens, permutations

BLANK, FIRST_KEY = 0, 1
NAMES_PER_PAIR = 4
"""Keys (and values) in the vocabulary for every one in a row."""


def make(setting: ProbeTask) -> Task:
    """Return the task with `items` pairs."""
    pairs = setting.items
    names = NAMES_PER_PAIR * pairs
    first_value = FIRST_KEY + names

    def draw(stream: np.random.Generator, rows: int, length: int) -> tuple[Tokens, Tokens]:
        keys = FIRST_KEY + permutations(stream, rows, names, pairs)
        values = first_value + permutations(stream, rows, names, pairs)
        inputs = np.full((rows, length), BLANK, dtype=np.int64)
        targets = np.full((rows, length), IGNORED, dtype=np.int64)
        inputs[:, 0 : 2 * pairs : 2], inputs[:, 1 : 2 * pairs : 2] = keys, values
        places = 2 * pairs + permutations(stream, rows, length - 2 * pairs, pairs)
        np.put_along_axis(inputs, places, keys, 1)
        np.put_along_axis(targets, places, values, 1)
        return inputs, targets

    return Task(f"MQAR, {pairs} pairs", 1 + 2 * names, 1 / pairs, draw)
