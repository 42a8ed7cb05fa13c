"""The learning-rate schedule: linear warm-up to the peak, then a cosine down to a tenth at the last step."""

from __future__ import annotations

import math

from evomix.specs import Optimisation

FINAL_FRACTION = 0.1
"""Learning rate of the last step, as a fraction of the peak."""


def learning_rate(optimisation: Optimisation, step: int) -> float:
    """Return the learning rate of `step` (0-based). Step 0 has peak/warm-up, never 0; no step exceeds the peak."""
    peak, warmup, last = optimisation.learning_rate, optimisation.warmup_steps, optimisation.steps - 1
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, last - warmup)
    return peak * (FINAL_FRACTION + (1 - FINAL_FRACTION) * 0.5 * (1 + math.cos(math.pi * progress)))
