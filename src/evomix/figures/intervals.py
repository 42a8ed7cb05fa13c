"""The mean of a few seeds with its confidence interval, for drawing; claims are tested in evomix.statistics."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import stats


def mean_interval(values: Iterable[float], level: float = 0.95) -> tuple[float, float, float]:
    """Return (mean, lower, upper) of Student's t interval over the finite `values`; bounds are NaN below two values."""
    sample = np.asarray([value for value in values if np.isfinite(value)], dtype=float)
    if not sample.size:
        return float("nan"), float("nan"), float("nan")
    mean = float(sample.mean())
    if sample.size < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf((1 + level) / 2, sample.size - 1) * sample.std(ddof=1) / np.sqrt(sample.size))
    return mean, mean - half, mean + half
