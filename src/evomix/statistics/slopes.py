"""The line loss = a + b·ln N: per-seed fits, their paired comparison, the pooled analysis of covariance, lack of fit.

Legend: S seeds, K sizes. `loss_SK` holds one variant's final losses, `log_n_K` its ln N (non-embedding parameters).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from evomix.statistics.paired import Floats, paired_t


def line_fits(log_n_K: Floats, loss_SK: Floats) -> tuple[Floats, Floats]:
    """Return least-squares slopes and intercepts (at ln N = 0), one per seed, each of shape (S,)."""
    centred = log_n_K - log_n_K.mean()
    slopes = loss_SK @ centred / float(centred @ centred)
    return slopes, loss_SK.mean(axis=1) - slopes * log_n_K.mean()


def interval_of_mean(values: Floats, alpha: float) -> dict[str, Any]:
    """Return mean, standard error and t-interval of per-seed estimates."""
    test = paired_t(values, alpha)
    return {"mean": test.mean, "se": test.error, "ci": [test.low, test.high], "seeds": test.n}


def r_squared(log_n_K: Floats, loss_SK: Floats) -> dict[str, float]:
    """Return the share of variance the common line explains: of all runs, and of the means over seeds."""
    slopes, intercepts = line_fits(log_n_K, loss_SK)
    fitted_K = intercepts.mean() + slopes.mean() * log_n_K

    def share(values: Floats, fitted: Floats) -> float:
        total = float(np.sum((values - values.mean()) ** 2))
        return 1 - float(np.sum((values - fitted) ** 2)) / total if total > 0 else math.nan

    return {
        "runs": share(loss_SK.ravel(), np.broadcast_to(fitted_K, loss_SK.shape).ravel()),
        "means": share(loss_SK.mean(axis=0), fitted_K),
    }


def lack_of_fit(log_n_K: Floats, loss_SK: Floats) -> dict[str, Any]:
    """Test the line against the saturated model with one mean per size; seeds are blocks (they share data order).

    F = (SS of size means around the line / (K − 2)) / (seed × size residual / ((S − 1)(K − 1))).
    """
    seeds, sizes = loss_SK.shape
    slopes, intercepts = line_fits(log_n_K, loss_SK)
    mean_K = loss_SK.mean(axis=0)
    misfit = seeds * float(np.sum((mean_K - intercepts.mean() - slopes.mean() * log_n_K) ** 2))
    residual = loss_SK - mean_K - loss_SK.mean(axis=1, keepdims=True) + loss_SK.mean()
    df1, df2 = sizes - 2, (seeds - 1) * (sizes - 1)
    if df1 < 1 or df2 < 1 or not float(np.sum(residual**2)) > 0:
        return {"F": None, "df": [df1, df2], "p": None}
    f = misfit / df1 / (float(np.sum(residual**2)) / df2)
    return {"F": f, "df": [df1, df2], "p": float(special.fdtrc(df1, df2, f))}


def ancova(
    log_n: Floats, loss: Floats, evolved: Floats, clusters: Floats, centre: float, alpha: float
) -> dict[str, Any] | None:
    """Fit loss ~ (ln N − centre) · arm on all runs, with errors clustered by seed (CR1, t with G − 1 degrees).

    `evolved` is 1 for the evolved arm, 0 for the standard; all arrays have shape (runs,). The arm's gain at the
    centre and its gain in slope carry the sign standard − evolved. None when fewer than two seeds exist.
    """
    if len(np.unique(clusters)) < 2:
        return None
    from statsmodels.regression.linear_model import OLS

    x = log_n - centre
    design = np.column_stack([np.ones_like(x), x, evolved, x * evolved])
    with np.errstate(invalid="ignore", divide="ignore"):
        fit = OLS(loss, design).fit(cov_type="cluster", cov_kwds={"groups": clusters.astype(int)}, use_t=True)
        low_high = fit.conf_int(alpha)
    rounding = 1e-12 * float(np.max(np.abs(loss)))

    def term(index: int, sign: int) -> dict[str, Any]:
        bounds = sorted(sign * float(bound) for bound in low_high[index])
        if not fit.bse[index] > rounding:
            return {"estimate": sign * float(fit.params[index]), "se": 0.0, "t": None, "p": None, "ci": [None, None]}
        return {
            "estimate": sign * float(fit.params[index]),
            "se": float(fit.bse[index]),
            "t": sign * float(fit.tvalues[index]),
            "p": float(fit.pvalues[index]),
            "ci": bounds,
        }

    return {
        "centre": math.exp(centre),
        "clusters": len(np.unique(clusters)),
        "standard_slope": term(1, 1),
        "gain_at_centre": term(2, -1),
        "gain_in_slope": term(3, -1),
    }
