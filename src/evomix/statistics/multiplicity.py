"""Many tests, one error rate: Holm's step-down correction, with tests that could not be computed counted as p = 1."""

from __future__ import annotations

import math
from collections.abc import Mapping


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return Holm-adjusted p-values by name (Holm 1979): strong control of the family-wise error.

    A NaN stays in the family as p = 1 (a test that failed is no reason to correct the others less) and comes back
    as NaN.
    """
    order = sorted(p_values, key=lambda name: (_known(p_values[name]), name))
    adjusted: dict[str, float] = {}
    largest = 0.0
    for position, name in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - position) * _known(p_values[name])))
        adjusted[name] = math.nan if math.isnan(p_values[name]) else largest
    return {name: adjusted[name] for name in p_values}


def _known(p: float) -> float:
    return 1.0 if math.isnan(p) else p
