"""Whether two variants want different hyper-parameters: only then does the second get a choice of its own.

Equal variants that are tuned apart end at different hyper-parameters by luck, and the final losses then differ for no
other reason. How much depends on the loss at full length around both choices, which no surface of shorter trials knows.
So the candidate takes the reference's hyper-parameters unless the trials of both, which share their points, show that
the difference of their losses depends on the hyper-parameters. The test is exact for equal variants, whatever the
noise and the shape of the loss.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Array = npt.NDArray[np.float64]

LEVEL = 0.01
"""Share of equal variants that are tuned apart. Registered in PROTOCOL.md."""
FLIPS = 1_999
_TIE = 1e-9


def difference_p(points: Array, difference: Array, active: tuple[int, ...], stream: np.random.Generator) -> float:
    """Return the sign-flip p of "the difference does not depend on the hyper-parameters".

    `points` (n, dimensions) in [−1, 1]; `difference` (n,) of both variants' losses, nats per token. The statistic is
    the share of variance of their signed ranks (about the median, a constant gain being no reason) explained by the
    active coordinates and the square of the first. Of equal variants every difference is as likely positive as
    negative, at each point with a noise of its own, which ranks keep from drowning the others.
    """
    centred = difference - np.median(difference)
    centred = np.sign(centred) * rankdata(np.abs(centred))
    if not active or np.ptp(difference) <= _TIE * np.max(np.abs(difference)):
        return 1.0
    features = np.column_stack([points[:, list(active)], points[:, active[0]] ** 2])
    basis, singular, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    basis = basis[:, singular > _TIE * singular[0]]
    signs = stream.choice([-1.0, 1.0], size=(FLIPS, len(centred)))
    drawn = np.vstack([centred, signs * centred])
    drawn -= drawn.mean(axis=1, keepdims=True)
    explained = ((drawn @ basis) ** 2).sum(axis=1) / np.maximum((drawn**2).sum(axis=1), np.finfo(float).tiny)
    return float(np.mean(explained >= explained[0] * (1 - _TIE)))
