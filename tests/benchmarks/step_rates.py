"""Rates that fit measured step times: what `step_times.py` prints and a test compares with those committed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from evomix.training.step_times import Machine, Rates
from evomix.training.step_times_measured import Measured

Features = tuple[float, float, float]


def rates(features: Sequence[Features], milliseconds: Sequence[float | None]) -> Rates:
    """Return non-negative rates of least relative squared error."""
    relative = 1e3 * np.array(features) / np.array(milliseconds, dtype=float)[:, None]
    return Rates(*(float(f"{rate:.3g}") for rate in nnls(relative, np.ones(len(relative)))[0]))


def fit(rows: Sequence[Measured], source: str) -> Machine:
    """Return the machine whose rates fit measured rows."""

    def features(row: Measured, launches: int) -> Features:
        return launches * row.work.operations, row.runs * row.work.elements, row.runs * row.work.flops

    compiled = [row for row in rows if row.compiled is not None]
    costs = [row.compiling / row.work.operations for row in compiled if row.compiling is not None]
    return Machine(
        source,
        rates([features(row, row.runs) for row in rows], [row.alone for row in rows]),
        rates([features(row, 1) for row in rows], [row.stacked for row in rows]),
        rates([features(row, 1) for row in compiled], [row.compiled for row in compiled]),
        float(f"{statistics.median(costs):.2g}"),
    )
