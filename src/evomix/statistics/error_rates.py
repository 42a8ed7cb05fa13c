"""Counting over simulated studies: a rate or a mean with its Monte-Carlo interval, judged against what was promised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from evomix.statistics.paired import Floats

LEVEL = 0.05
"""Monte-Carlo intervals are at 95 %."""


@dataclass(frozen=True)
class Promise:
    """What a rate or mean should be: between `low` and `high`; either may be infinite. `says` names it in words."""

    says: str
    low: float = -math.inf
    high: float = math.inf

    def verdict(self, estimate: float, interval: tuple[float, float]) -> str:
        """Return "holds", "holds within Monte-Carlo error" or "broken"."""
        if self.low <= estimate <= self.high:
            return "holds"
        return "holds within Monte-Carlo error" if interval[0] <= self.high and interval[1] >= self.low else "broken"


def clopper_pearson(hits: int, trials: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a proportion (Clopper & Pearson 1934)."""
    low = float(special.betaincinv(hits, trials - hits + 1, LEVEL / 2)) if hits else 0.0
    high = float(special.betaincinv(hits + 1, trials - hits, 1 - LEVEL / 2)) if hits < trials else 1.0
    return low, high


def rate(name: str, hits: list[bool], promise: Promise | None) -> dict[str, Any]:
    """Return a row of the calibration table for the share of True among `hits` (independent studies)."""
    count = int(np.sum(hits))
    interval = clopper_pearson(count, len(hits))
    return _row(name, count / len(hits), interval, len(hits), promise)


def mean(name: str, values: Floats, promise: Promise | None) -> dict[str, Any]:
    """Return a row of the calibration table for the mean of `values` over independent studies."""
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    estimate = float(np.mean(values))
    return _row(name, estimate, (estimate - 1.96 * error, estimate + 1.96 * error), len(values), promise)


def _row(
    name: str, estimate: float, interval: tuple[float, float], studies: int, promise: Promise | None
) -> dict[str, Any]:
    return {
        "name": name,
        "estimate": estimate,
        "ci": list(interval),
        "studies": studies,
        "promise": promise.says if promise else "shown for contrast",
        "verdict": promise.verdict(estimate, interval) if promise else None,
    }
