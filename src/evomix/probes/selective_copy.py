"""Selective copying: tokens lie at random places among blanks; repeat them in order at the end.

Gu and Dao 2023 (Mamba, arXiv 2312.00752, section 4.1.1), after Jing et al. 2019: random spacing defeats mixers whose
rule depends on time alone, since they must see content to tell tokens from blanks.

Row: D tokens of 16 among blanks, then D marks; at mark i the i-th token is asked. Chance: any of the row's D tokens,
1/D + (1 − 1/D)/16.
"""

from __future__ import annotations

import numpy as np

from evomix.corpus.tokens import IGNORED
from evomix.probes.settings import ProbeTask
from evomix.probes.task import Task, Tokens, permutations

CONTENT = 16
BLANK, MARK = CONTENT, CONTENT + 1


def make(setting: ProbeTask) -> Task:
    """Return the task with `items` tokens to copy."""
    count = setting.items

    def draw(stream: np.random.Generator, rows: int, length: int) -> tuple[Tokens, Tokens]:
        tokens = stream.integers(0, CONTENT, (rows, count))
        places = np.sort(permutations(stream, rows, length - count, count), -1)
        inputs = np.full((rows, length), BLANK, dtype=np.int64)
        targets = np.full((rows, length), IGNORED, dtype=np.int64)
        np.put_along_axis(inputs, places, tokens, 1)
        inputs[:, length - count :] = MARK
        targets[:, length - count :] = tokens
        return inputs, targets

    chance = 1 / count + (1 - 1 / count) / CONTENT
    return Task(f"Selective copy, {count} tokens", CONTENT + 2, chance, draw)
