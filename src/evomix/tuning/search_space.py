"""The four hyper-parameters of the protocol, and the coordinates in which the loss is close to a quadratic.

A coordinate maps the range of a hyper-parameter to [−1, 1]: learning rate on a log scale, warm-up on log(1 + steps),
weight decay linearly, batch size on log2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evomix.errors import UserError
from evomix.settings import Tuning

NAMES = ("learning_rate", "warmup_steps", "weight_decay", "batch_size")
_SCALES = {
    "learning_rate": (math.log, math.exp),
    "warmup_steps": (math.log1p, math.expm1),
    "weight_decay": (float, float),
    "batch_size": (math.log2, lambda scaled: 2.0**scaled),
}
_GRID = {"learning_rate": 41, "warmup_steps": 9, "weight_decay": 9}


@dataclass(frozen=True)
class Dimension:
    """One hyper-parameter: its range, and its choices where only some values are allowed."""

    name: str
    low: float
    high: float
    choices: tuple[int, ...] = ()

    @property
    def active(self) -> bool:
        """Whether there is anything to choose."""
        return self.low < self.high

    def coordinate(self, value: float) -> float:
        """Return the position of `value` in [−1, 1] (0 where there is nothing to choose)."""
        scale = _SCALES[self.name][0]
        low, high = scale(self.low), scale(self.high)
        return 2 * (scale(value) - low) / (high - low) - 1 if self.active else 0.0

    def value(self, coordinate: float) -> float | int:
        """Return the hyper-parameter at a coordinate, rounded to three digits (whole steps, an allowed batch size)."""
        scale, inverse = _SCALES[self.name]
        if self.choices:
            return min(self.choices, key=lambda choice: abs(self.coordinate(choice) - coordinate))
        low, high = scale(self.low), scale(self.high)
        value = inverse(low + (coordinate + 1) / 2 * (high - low))
        rounded = float(f"{value:.3g}")
        inside = min(max(rounded, self.low), self.high)
        return round(inside) if self.name == "warmup_steps" else inside

    def grid(self) -> npt.NDArray[np.float64]:
        """Return the coordinates among which an optimum is sought."""
        if not self.active:
            return np.zeros(1)
        if self.choices:
            return np.array([self.coordinate(choice) for choice in self.choices])
        return np.linspace(-1, 1, _GRID[self.name])


def dimensions(tuning: Tuning) -> tuple[Dimension, ...]:
    """Return the search space of the config; UserError for an impossible range, naming the key."""
    for name in NAMES[:3]:
        low, high = getattr(tuning, name)
        if low > high:
            raise UserError(f"tuning.{name} is [{low}, {high}]; the first number must not exceed the second")
        if low < 0 or (name == "learning_rate" and low == 0):
            raise UserError(f"tuning.{name} begins at {low}; choose a range of positive numbers")
    if min(tuning.batch_sizes) < 1:
        raise UserError(f"tuning.batch_sizes holds {min(tuning.batch_sizes)}; choose sizes of at least 1")
    sizes = tuple(sorted(set(tuning.batch_sizes)))
    ranges = [Dimension(name, float(low), float(high)) for name in NAMES[:3] for low, high in [getattr(tuning, name)]]
    return (*ranges, Dimension("batch_size", float(sizes[0]), float(sizes[-1]), sizes))


def coordinates(space: tuple[Dimension, ...], trials: list[dict[str, float]]) -> npt.NDArray[np.float64]:
    """Return the positions of trials in the search space, (trials, dimensions) in [−1, 1]."""
    rows = [[dimension.coordinate(trial[dimension.name]) for dimension in space] for trial in trials]
    return np.array(rows, dtype=np.float64).reshape(len(trials), len(space))


def grid(space: tuple[Dimension, ...]) -> npt.NDArray[np.float64]:
    """Return all combinations of the dimensions' grids, (points, dimensions)."""
    axes = np.meshgrid(*(dimension.grid() for dimension in space), indexing="ij")
    return np.stack([axis.ravel() for axis in axes], axis=1)
