"""What a number of seeds can show: power of the paired t-test, the detectable effect, and the seeds an effect needs."""

from __future__ import annotations

import functools
import math

from scipy import optimize

from evomix.statistics.effect import noncentral_t_cdf
from evomix.statistics.paired import t_quantile

SEEDS_LIMIT = 10_000
"""Seeds beyond which an effect counts as out of reach."""


def power(d_z: float, n: int, alpha: float) -> float:
    """Return the power of the two-sided paired t-test at true effect d_z with n seeds (noncentral t)."""
    if n < 2 or not math.isfinite(d_z):
        return math.nan
    critical = t_quantile(n - 1, 1 - alpha / 2)
    noncentrality = abs(d_z) * math.sqrt(n)
    upper = noncentral_t_cdf(-critical, n - 1, -noncentrality)
    lower = noncentral_t_cdf(-critical, n - 1, noncentrality)
    return min(1.0, upper + lower)


@functools.cache
def detectable_effect(n: int, alpha: float, target: float = 0.8) -> float:
    """Return the smallest d_z that n seeds detect with power `target`."""
    if n < 2:
        return math.nan
    high = 1.0
    while power(high, n, alpha) < target:
        high *= 2
        if high > 1e6:
            return math.nan
    return float(optimize.brentq(lambda d: power(d, n, alpha) - target, 0.0, high, xtol=1e-10))


def seeds_needed(d_z: float, alpha: float, target: float = 0.8) -> int | None:
    """Return the smallest number of seeds with power ≥ `target` at true effect d_z, or None above 10,000."""
    if not math.isfinite(d_z) or power(d_z, SEEDS_LIMIT, alpha) < target:
        return None
    low, high = 1, SEEDS_LIMIT
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(d_z, middle, alpha) >= target else (middle, high)
    return high
