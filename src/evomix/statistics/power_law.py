"""The power law loss = E + A·N^−α with E and α shared by both arms, and what a ratio A'/A is worth in parameters.

For a fixed α the law is linear in E and the A's, so the fit is a search over α alone. All losses of a bootstrap are
fitted at once on a grid of α: the design does not change, only the losses do. Legend: R replicates, K sizes, G grid.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from evomix.statistics.paired import Floats

GRID = np.geomspace(0.01, 3.0, 600)
"""Exponents tried (steps of 1 %)."""


def _design(n_arms: tuple[Floats, Floats], reference: float, alpha: float) -> Floats:
    """Return columns for E, A_standard, A_evolved with N in units of `reference`."""
    first, second = (np.power(n / reference, -alpha) for n in n_arms)
    constant = np.ones(len(first) + len(second))
    zero_first, zero_second = np.zeros(len(first)), np.zeros(len(second))
    return np.column_stack([constant, np.append(first, zero_second), np.append(zero_first, second)])


def fit_many(n_arms: tuple[Floats, Floats], means_RK: tuple[Floats, Floats]) -> dict[str, Floats]:
    """Fit E ≥ 0, A, A' and α by least squares to R replicates of size means at once; each result has shape (R,).

    A's are losses above E at the reference size (geometric mean of the standard's N). `at_edge` marks replicates
    whose best α lies on the edge of the grid or whose E is 0: the data do not tell the floor from the exponent.
    """
    reference = float(np.exp(np.mean(np.log(n_arms[0]))))
    loss_RP = np.concatenate(means_RK, axis=1)
    replicates = len(loss_RP)
    best = np.full(replicates, np.inf)
    result = {name: np.full(replicates, np.nan) for name in ("E", "A", "A_evolved", "alpha")}
    edge = np.zeros(replicates, dtype=bool)
    for index, alpha in enumerate(GRID):
        design = _design(n_arms, reference, float(alpha))
        free_R3 = loss_RP @ np.linalg.pinv(design).T
        bound_R3 = np.zeros_like(free_R3)
        bound_R3[:, 1:] = loss_RP @ np.linalg.pinv(design[:, 1:]).T
        chosen_R3 = np.where(free_R3[:, :1] >= 0, free_R3, bound_R3)
        error = np.sum((loss_RP - chosen_R3 @ design.T) ** 2, axis=1)
        better = (error < best) & (chosen_R3[:, 1] > 0) & (chosen_R3[:, 2] > 0)
        best = np.where(better, error, best)
        edge = np.where(better, (index in (0, len(GRID) - 1)) | (chosen_R3[:, 0] <= 0), edge)
        for name, values in zip(("E", "A", "A_evolved"), chosen_R3.T, strict=True):
            result[name] = np.where(better, values, result[name])
        result["alpha"] = np.where(better, alpha, result["alpha"])
    return {**result, "rss": np.where(np.isfinite(best), best, np.nan), "at_edge": edge.astype(np.float64)}


def multiplier(fit: dict[str, Floats]) -> Floats:
    """Return how many times the parameters of the evolved variant the standard needs for the same loss.

    A'·N^−α = A·(m·N)^−α gives m = (A/A')^(1/α); m > 1 means the evolved variant is worth more parameters.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        factor: Floats = np.exp(np.log(fit["A"] / fit["A_evolved"]) / fit["alpha"])
    return factor


def power_law(
    n_arms: tuple[Floats, Floats],
    loss_SK: tuple[Floats, Floats],
    alpha: float,
    rng: np.random.Generator,
    resamples: int = 1_000,
) -> dict[str, Any] | None:
    """Fit the law to the means over seeds, with percentile intervals from a bootstrap over seeds (both arms jointly).

    None with fewer than three sizes: E, α and two A's cannot be told apart from four means or fewer.
    """
    seeds, sizes = loss_SK[0].shape
    if sizes < 3 or seeds < 1:
        return None
    point = fit_many(n_arms, (loss_SK[0].mean(axis=0)[None], loss_SK[1].mean(axis=0)[None]))
    estimates = {**point, "ratio": point["A_evolved"] / point["A"], "multiplier": multiplier(point)}
    names = ("E", "alpha", "A", "A_evolved", "ratio", "multiplier")
    intervals = {name: [math.nan, math.nan] for name in names}
    unidentified = float(point["at_edge"][0])
    if seeds >= 2:
        draws = rng.integers(0, seeds, size=(resamples, seeds))
        drawn = fit_many(n_arms, (loss_SK[0][draws].mean(axis=1), loss_SK[1][draws].mean(axis=1)))
        drawn = {**drawn, "ratio": drawn["A_evolved"] / drawn["A"], "multiplier": multiplier(drawn)}
        unidentified = float(np.mean((drawn["at_edge"] > 0) | np.isnan(drawn["alpha"])))
        for name in names:
            kept = drawn[name][np.isfinite(drawn[name])]
            if len(kept):
                intervals[name] = [float(np.quantile(kept, q)) for q in (alpha / 2, 1 - alpha / 2)]
    return {
        **{name: {"estimate": float(estimates[name][0]), "ci": intervals[name]} for name in names},
        "reference_n": float(np.exp(np.mean(np.log(n_arms[0])))),
        "rss": float(point["rss"][0]),
        "df": 2 * sizes - 4,
        "resamples": resamples if seeds >= 2 else 0,
        "unidentified_share": unidentified,
    }
