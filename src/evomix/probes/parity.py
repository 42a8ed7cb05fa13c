"""Parity: say after every bit whether the number of ones so far is odd.

The word problem of Z₂. Liu et al. 2023 (arXiv 2210.10749) show how transformers learn shortcuts to it that hold only at
the lengths they were trained on; Merrill, Petty and Sabharwal 2024 (arXiv 2404.08819) place what a recurrent state can
do and attention of fixed depth cannot. Chance: 1/2.
"""

from __future__ import annotations

import numpy as np

from evomix.probes.settings import ProbeTask
from evomix.probes.task import Task, Tokens

FIRST_ANSWER = 2


def make(setting: ProbeTask) -> Task:
    """Return the task; it has no settings of its own."""

    def draw(stream: np.random.Generator, rows: int, length: int) -> tuple[Tokens, Tokens]:
        bits = stream.integers(0, 2, (rows, length))
        return bits, FIRST_ANSWER + np.cumsum(bits, -1) % 2

    return Task("Parity", 4, 0.5, draw)
