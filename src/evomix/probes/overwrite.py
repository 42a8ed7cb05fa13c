"""Overwrite recall: keys are bound twice, and the later binding counts.

Schlag, Irie and Schmidhuber 2021 (arXiv 2102.11174, section 6.1, setting 2: keys drawn with replacement) built it to
tell additive memories from those that replace: a sum of all bindings answers with the old value as gladly as the new.

Row: every one of D keys twice in random order, each time with another value, then D queries among blanks. Chance: one
of the 2 D values of the row. Recall of both bindings without their order would be right half the time.
"""

from __future__ import annotations

import numpy as np

from evomix.corpus.tokens import IGNORED
from evomix.probes.mqar import BLANK, FIRST_KEY, NAMES_PER_PAIR
from evomix.probes.settings import ProbeTask
from evomix.probes.task import Task, Tokens, permutations


def make(setting: ProbeTask) -> Task:
    """Return the task with `items` keys."""
    keys = setting.items
    vocabulary = NAMES_PER_PAIR * keys  # of keys; values are twice as many
    first_value = FIRST_KEY + vocabulary

    def draw(stream: np.random.Generator, rows: int, length: int) -> tuple[Tokens, Tokens]:
        names = FIRST_KEY + permutations(stream, rows, vocabulary, keys)
        writes = permutations(stream, rows, 2 * keys, 2 * keys)  # write w binds key w mod D
        values = first_value + permutations(stream, rows, 2 * vocabulary, 2 * keys)
        inputs = np.full((rows, length), BLANK, dtype=np.int64)
        targets = np.full((rows, length), IGNORED, dtype=np.int64)
        inputs[:, 0 : 4 * keys : 2] = np.take_along_axis(names, writes % keys, 1)
        inputs[:, 1 : 4 * keys : 2] = values
        when = writes.argsort(-1)  # place of write w in the row
        latest = np.take_along_axis(values, np.maximum(when[:, :keys], when[:, keys:]), 1)
        places = 4 * keys + permutations(stream, rows, length - 4 * keys, keys)
        np.put_along_axis(inputs, places, names, 1)
        np.put_along_axis(targets, places, latest, 1)
        return inputs, targets

    return Task(f"Overwrite recall, {keys} keys", 1 + 3 * vocabulary, 1 / (2 * keys), draw)
