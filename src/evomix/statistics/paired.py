"""Two variants on the same seeds: paired t with its interval, exact sign-flip and signed-rank tests, BCa bootstrap.

Everywhere a difference is standard − evolved of the final loss, so that a positive number means the evolved variant
is better. Arrays have shape (n,), one entry per seed; NaN marks a diverged run and never enters this module.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from evomix.streams import numpy_stream

Floats = NDArray[np.float64]

EXACT_LIMIT = 16
"""Largest number of seeds whose 2^n sign patterns are enumerated; above it patterns are drawn."""
DRAWS = 99_999
"""Sign patterns drawn above the limit (the observed pattern is added, so that p is never 0)."""


@dataclass(frozen=True)
class PairedT:
    """Result of a paired t-test. Non-finite numbers mean "cannot be computed" (fewer than two pairs)."""

    n: int
    mean: float
    sd: float
    error: float
    low: float
    high: float
    t: float
    df: float
    p: float
    degenerate: bool


def constant(values: Floats) -> bool:
    """Return whether all values are equal up to rounding, so that no t-statistic exists."""
    return bool(np.ptp(values) <= 1e-9 * np.max(np.abs(values), initial=0.0))


def t_quantile(df: float, probability: float) -> float:
    """Return the quantile of Student's t."""
    return float(special.stdtrit(df, probability))


def t_upper(df: float, t: float) -> float:
    """Return P(T > t) of Student's t with `df` degrees of freedom."""
    return float(special.stdtr(df, -t))


def paired_t(difference: Floats, alpha: float = 0.05, shared_variance: float = 0.0) -> PairedT:
    """Test mean difference 0 against both sides and give the interval at level 1 − alpha (Student 1908).

    `shared_variance` is the variance of an error that all seeds share (the tuning's, see `tuning_noise`): it adds to
    that of the mean, with degrees of freedom by Satterthwaite (1946), its own counted as n − 1. When all differences
    are equal, p is at least the exact sign-flip p (1 when the differences are 0), the smallest that n seeds support.
    """
    n = len(difference)
    if n < 2:
        mean = float(difference[0]) if n else math.nan
        return PairedT(n, mean, math.nan, math.nan, math.nan, math.nan, math.nan, max(n - 1, 0), math.nan, False)
    mean = float(np.mean(difference))
    equal = constant(difference)
    sd = 0.0 if equal else float(np.std(difference, ddof=1))
    own_variance = sd**2 / n
    error = math.sqrt(own_variance + shared_variance)
    if error == 0:
        return PairedT(n, mean, sd, 0.0, mean, mean, math.nan, n - 1, sign_flip_p(difference, _coins()), True)
    df = (n - 1) * (own_variance + shared_variance) ** 2 / (own_variance**2 + shared_variance**2)
    half = t_quantile(df, 1 - alpha / 2) * error
    t = mean / error
    p = 2 * t_upper(df, abs(t))
    if equal:
        p = max(p, sign_flip_p(difference, _coins()))
    return PairedT(n, mean, sd, error, mean - half, mean + half, t, df, p, equal)


def _coins() -> np.random.Generator:
    """Return the stream of the sign patterns of equal differences."""
    return numpy_stream(0, "paired", "equal differences")


def _sign_patterns(n: int, rng: np.random.Generator | None) -> Floats:
    """Return sign patterns as rows of ±1: all 2^n of them, or the observed one and `DRAWS` random ones."""
    if n <= EXACT_LIMIT:
        flips = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return (1 - 2 * flips).astype(np.float64)
    if rng is None:
        raise ValueError(f"{n} seeds have too many sign patterns to enumerate; a random stream is needed")
    drawn = rng.integers(0, 2, size=(DRAWS, n))
    patterns: Floats = np.vstack([np.ones(n), 1.0 - 2.0 * drawn])
    return patterns


def sign_flip_p(scores: Floats, rng: np.random.Generator | None = None, *, greater: bool = False) -> float:
    """Return the permutation p of mean score 0 when each score's sign is a fair coin (Fisher 1935).

    Two-sided, or for the alternative mean > 0 with `greater`. Exact up to 16 scores; ties are handled exactly.
    """
    if len(scores) == 0:
        return math.nan
    sums = _sign_patterns(len(scores), rng) @ scores
    slack = 1e-9 * float(np.sum(np.abs(scores)))
    observed = float(np.sum(scores))
    extreme = sums >= observed - slack if greater else np.abs(sums) >= abs(observed) - slack
    return float(np.mean(extreme))


def signed_ranks(difference: Floats) -> Floats:
    """Return mid-ranks of |difference| with the sign of the difference; zeros are dropped (Wilcoxon 1945).

    Infinite differences are allowed: they take the highest ranks, which is the worst-rank analysis of runs that
    diverged (Lachin 1999).
    """
    kept = difference[difference != 0]
    size = np.abs(kept)
    below = (size[None, :] < size[:, None]).sum(axis=1)
    equal = (size[None, :] == size[:, None]).sum(axis=1)
    ranks: Floats = np.sign(kept) * (below + (equal + 1) / 2)
    return ranks


def signed_rank_p(difference: Floats, rng: np.random.Generator | None = None) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test, exact up to 16 pairs also with ties; 1 if all are 0."""
    ranks = signed_ranks(difference)
    if len(difference) and not len(ranks):
        return 1.0
    return sign_flip_p(ranks, rng)


def bootstrap_interval(
    difference: Floats, alpha: float, rng: np.random.Generator, resamples: int = 9_999
) -> tuple[float, float]:
    """Return the BCa bootstrap interval of the mean difference (Efron 1987); NaN when the data cannot give one."""
    if len(difference) < 2 or constant(difference):
        return math.nan, math.nan
    from scipy import stats

    result = stats.bootstrap(
        (difference,), np.mean, confidence_level=1 - alpha, n_resamples=resamples, method="BCa", rng=rng
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
