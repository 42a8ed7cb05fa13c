"""More than two variants on the same seeds: repeated-measures ANOVA and Friedman's test.

Legend: S seeds (blocks), V variants; `loss_SV` holds one loss per seed and variant.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from evomix.statistics.paired import Floats

DRAWS = 9_999
"""Within-seed permutations of Friedman's test (the observed order is added)."""


def anova(loss_SV: Floats) -> dict[str, Any] | None:
    """Return the one-way repeated-measures ANOVA with Greenhouse and Geisser's (1959) correction for unequal spread.

    None when there are fewer than two seeds or variants, or nothing varies beyond seeds and variants.
    """
    seeds, variants = loss_SV.shape
    if seeds < 2 or variants < 2:
        return None
    between = seeds * float(np.sum((loss_SV.mean(axis=0) - loss_SV.mean()) ** 2))
    residual_SV = loss_SV - loss_SV.mean(axis=0) - loss_SV.mean(axis=1, keepdims=True) + loss_SV.mean()
    residual = float(np.sum(residual_SV**2))
    if not residual > 1e-18 * float(np.sum(loss_SV**2)):
        return None
    df1, df2 = variants - 1, (seeds - 1) * (variants - 1)
    f = between / df1 / (residual / df2)
    covariance_VV = residual_SV.T @ residual_SV
    epsilon = float(np.trace(covariance_VV)) ** 2 / (df1 * float(np.sum(covariance_VV**2)))
    return {
        "F": f,
        "df": [df1, df2],
        "p": float(special.fdtrc(df1, df2, f)),
        "epsilon": epsilon,
        "p_corrected": float(special.fdtrc(epsilon * df1, epsilon * df2, f)),
        "partial_eta_squared": between / (between + residual),
    }


def within_ranks(loss_SV: Floats) -> Floats:
    """Return mid-ranks within each seed (1 = lowest loss); runs that diverged (NaN) share the highest ranks."""
    worst_SV = np.where(np.isfinite(loss_SV), loss_SV, np.inf)
    below = (worst_SV[:, None, :] < worst_SV[:, :, None]).sum(axis=2)
    equal = (worst_SV[:, None, :] == worst_SV[:, :, None]).sum(axis=2)
    ranks: Floats = below + (equal + 1) / 2
    return ranks


def friedman(loss_SV: Floats, rng: np.random.Generator) -> dict[str, Any] | None:
    """Return Friedman's (1937) test corrected for ties, its permutation p (for few seeds), and Kendall's W.

    None with fewer than two seeds or variants, or when every seed ties all variants.
    """
    seeds, variants = loss_SV.shape
    if seeds < 2 or variants < 2:
        return None
    ranks_SV = within_ranks(loss_SV)
    centred_SV = ranks_SV - (variants + 1) / 2
    spread = float(np.sum(centred_SV**2)) / (variants - 1)
    if spread == 0:
        return None
    statistic = float(np.sum(centred_SV.sum(axis=0) ** 2)) / spread
    drawn = rng.permuted(np.broadcast_to(centred_SV, (DRAWS, seeds, variants)), axis=2)
    drawn_statistics = np.sum(drawn.sum(axis=1) ** 2, axis=1) / spread
    exceeding = int(np.sum(drawn_statistics >= statistic - 1e-9 * max(statistic, 1.0)))
    return {
        "chi_squared": statistic,
        "df": variants - 1,
        "p": float(special.chdtrc(variants - 1, statistic)),
        "permutation_p": (1 + exceeding) / (DRAWS + 1),
        "kendalls_w": statistic / (seeds * (variants - 1)),
        "mean_ranks": [float(rank) for rank in ranks_SV.mean(axis=0)],
    }
