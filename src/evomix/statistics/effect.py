"""Size of a paired effect: d_z with an exact interval, its small-sample correction, and words for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import optimize, special

from evomix.statistics.paired import Floats, PairedT

WORDS = ((0.2, "negligible"), (0.5, "small"), (0.8, "medium"), (math.inf, "large"))
"""Cohen's (1988) conventional limits of |d|."""


LARGE_T = 300.0
"""|t| above which the library's noncentral t loses itself and its chi limit is used (relative error below 1e-5)."""


def noncentral_t_cdf(t: float, df: float, noncentrality: float) -> float:
    """Return P(T ≤ t) of the noncentral t.

    T = (Z + δ)/S with S = √(χ²/df). For |t| > 300 Z no longer matters beside t·S, so P(T ≤ t) = P(S ≥ δ/t).
    """
    if abs(t) <= LARGE_T:
        return float(special.nctdtr(df, noncentrality, t))
    if noncentrality / t <= 0:
        return 1.0 if t > 0 else 0.0
    above = float(special.chdtrc(df, df * (noncentrality / t) ** 2))
    return above if t > 0 else 1 - above


def noncentrality_at(t: float, df: float, probability: float) -> float:
    """Return the noncentrality at which P(T ≤ t) equals `probability` (the cdf falls as noncentrality grows)."""

    def excess(noncentrality: float) -> float:
        return noncentral_t_cdf(t, df, noncentrality) - probability

    step = 2.0 + abs(t)
    low, high = t - step, t + step
    while not excess(low) > 0:
        low -= step
        if low < t - 64 * step:
            return math.nan
    while not excess(high) < 0:
        high += step
        if high > t + 64 * step:
            return math.nan
    return float(optimize.brentq(excess, low, high, xtol=1e-10))


def dz_interval(test: PairedT, alpha: float) -> tuple[float, float]:
    """Return the exact interval of d_z = mean/sd by inverting the noncentral t (Cumming & Finch 2001)."""
    if test.n < 2 or not test.sd > 0:
        return math.nan, math.nan
    root = math.sqrt(test.n)
    t = test.mean / test.sd * root
    low = noncentrality_at(t, test.n - 1, 1 - alpha / 2) / root
    high = noncentrality_at(t, test.n - 1, alpha / 2) / root
    return low, high


def hedges_factor(df: int) -> float:
    """Return Hedges' (1981) exact bias correction J(df); J(9) = .914."""
    if df < 2:
        return math.nan
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)


def in_words(d_z: float) -> str:
    """Say |d_z| in Cohen's words with its direction."""
    if not math.isfinite(d_z):
        return "not computable: needs at least two pairs that differ by seed"
    size = next(word for limit, word in WORDS if abs(d_z) < limit)
    direction = "in favour of evolved" if d_z > 0 else "in favour of standard"
    return f"{size} {direction}" if size != "negligible" else "negligible"


def effect(standard: Floats, evolved: Floats, test: PairedT, alpha: float) -> dict[str, Any]:
    """Return d_z with interval and words, Hedges' g_z, d_av and the correlation of the arms over seeds.

    d_z = d_av / √(2 (1 − r)): it measures how consistent the gain is over seeds, not how large it is in nats. Noise of
    the tuning plays no part in it.
    """
    d_z = test.mean / test.sd if test.n >= 2 and test.sd > 0 else math.nan
    low, high = dz_interval(test, alpha)
    spread = math.nan
    correlation = math.nan
    if test.n >= 2:
        spread = math.sqrt((float(np.var(standard, ddof=1)) + float(np.var(evolved, ddof=1))) / 2)
        if np.ptp(standard) > 0 and np.ptp(evolved) > 0:
            correlation = float(np.corrcoef(standard, evolved)[0, 1])
    return {
        "d_z": d_z,
        "ci": [low, high],
        "level": 1 - alpha,
        "hedges_g_z": d_z * hedges_factor(test.n - 1),
        "d_av": test.mean / spread if spread > 0 else math.nan,
        "correlation": correlation,
        "interpretation": in_words(d_z),
    }
