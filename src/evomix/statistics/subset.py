"""Whether the curves' fixed subset of held-out rows is large enough: its noise against that of the seeds.

A run ends with its loss on the subset and on the whole shard. What the subset adds to every run alike (its rows may be
easy) moves no comparison; the standard deviation over seeds of `subset − shard` is the noise that it adds to a point of
a curve. The subset is large enough when that is at most a fifth of the standard deviation of the final losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evomix.statistics.observations import Observation

LARGEST_SHARE = 0.2


def subset_noise(runs: Sequence[Observation]) -> dict[str, Any] | None:
    """Return {rows, noise, seed_sd, share} in nats per token of a variant's runs; None with fewer than two finished."""
    finished = [run for run in runs if np.isfinite(run.loss) and run.subset is not None]
    if len(finished) < 2:
        return None
    losses = np.array([run.loss for run in finished])
    errors = np.array([run.subset[1] for run in finished if run.subset]) - losses
    noise, deviation = float(errors.std(ddof=1)), float(losses.std(ddof=1))
    rows = max(run.subset[0] for run in finished if run.subset)
    return {"rows": rows, "noise": noise, "seed_sd": deviation, "share": noise / deviation if deviation else None}


def too_small(noise: dict[str, Any] | None) -> bool:
    """Return whether the subset blurs what a seed does."""
    return noise is not None and noise["share"] is not None and noise["share"] > LARGEST_SHARE
