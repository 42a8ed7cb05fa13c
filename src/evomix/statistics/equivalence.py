"""Is the difference small enough not to matter? Two one-sided tests with a margin in parameter equivalents."""

from __future__ import annotations

import math
from dataclasses import dataclass

from evomix.statistics.paired import Floats, PairedT, sign_flip_p, t_quantile, t_upper
from evomix.streams import numpy_stream


@dataclass(frozen=True)
class Tost:
    """Two one-sided tests against ±margin; `low` and `high` bound the interval at level 1 − 2·alpha."""

    margin: float
    p_lower: float
    p_upper: float
    p: float
    low: float
    high: float
    equivalent: bool


def margin_from_slope(slope: float, share: float) -> float:
    """Return the loss (nats per token) worth a `share` of the parameters: |dL/d ln N| · ln(1 + share)."""
    return abs(slope) * math.log1p(share)


def tost(difference: Floats, test: PairedT, margin: float, alpha: float) -> Tost:
    """Test that the mean difference lies within ±margin (Schuirmann 1987); `test` is the paired t of `difference`.

    p_lower is for "mean > −margin", p_upper for "mean < +margin"; equivalence holds when the larger is below alpha.
    With differences all equal each p is at least the one-sided sign-flip p.
    """
    if test.n < 2 or not margin > 0:
        return Tost(margin, math.nan, math.nan, math.nan, math.nan, math.nan, False)
    p_lower = p_upper = half = 0.0
    if test.error > 0:
        p_lower = t_upper(test.df, (test.mean + margin) / test.error)
        p_upper = t_upper(test.df, (margin - test.mean) / test.error)
        half = t_quantile(test.df, 1 - alpha) * test.error
    if test.degenerate:
        coins = numpy_stream(0, "equivalence", "equal differences")
        p_lower = max(p_lower, sign_flip_p(difference + margin, coins, greater=True))
        p_upper = max(p_upper, sign_flip_p(margin - difference, coins, greater=True))
    p = max(p_lower, p_upper)
    return Tost(margin, p_lower, p_upper, p, test.mean - half, test.mean + half, p < alpha)
