"""What a task is: a pure generator of (inputs, targets), its vocabulary, and what accuracy means in it.

Targets are `IGNORED` where nothing is asked. All tokens of a task, inputs and answers, share one vocabulary, because
the shell's embedding is tied to its head. Legend: n sequences, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]
Draw = Callable[[np.random.Generator, int, int], tuple[Tokens, Tokens]]
"""(stream, n, T) → inputs (n, T), targets (n, T)."""


@dataclass(frozen=True)
class Task:
    """One task in one setting."""

    title: str
    """What a reader calls it."""
    vocabulary: int
    chance: float
    """Accuracy of a guesser that knows which answers are possible but nothing of what the sequence says about them."""
    draw: Draw
    ceiling: float = 1.0
    """Accuracy of a perfect reasoner; below one where the sequence leaves the answer open."""


def permutations(stream: np.random.Generator, rows: int, count: int, drawn: int) -> Tokens:
    """Return `drawn` different numbers below `count` in random order for every row, (n, drawn)."""
    return stream.random((rows, count)).argsort(-1, kind="stable")[:, :drawn]
