"""Causality by replacing the future, under every condition that a training or a measurement of its loss brings.

Every cut at the training's length, noise and inputs that resemble text, other lengths, every batch size that is
trained or scored, with and without gradients, in float64, float32 and under autocast: a leak that acts where none of
these look does not act where it would pay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from evomix.gate.inputs import Inputs, before_cuts
from evomix.gate.refusal import measured
from evomix.mechanisms.contract import Mechanism

EXACT, SINGLE, HALF = 1e-9, 1e-5, 1e-4
"""Limits of a relative change in float64, float32 and under bfloat16 autocast."""
OTHER_BATCHES = (8, 16, 32, 64, 128)
"""Batch sizes beside the training's: those that a tuning may choose, and those of scoring."""

_LEAK = (
    "Output t must not depend on tokens after t: mask with -inf before a softmax, sum over i ≤ t only, pad on the left."
)


@dataclass(frozen=True)
class Bench:
    """The conditions under which a mechanism is tried: inputs, the training's length and its batch size."""

    inputs: Inputs
    tokens: int
    batch: int


def check(mechanism: Mechanism, bench: Bench, state: str) -> Iterator[dict[str, Any]]:
    """Yield the records of causality for one state of a mechanism (float64, evaluation mode; left so)."""
    inputs, full = bench.inputs, bench.tokens
    cuts = range(1, full)
    found = {"float64": _leak(mechanism, inputs, full, 1, [(cut, (1.0, 30.0)[cut % 2]) for cut in cuts])}
    found["text"] = _leak(mechanism, inputs, full, 1, [(cut, 1.0) for cut in cuts], text=True)
    found["other lengths"] = 0.0
    for tokens in (2, 3, 5, 12, 24, 48, full + 1, 3 * full // 2):
        beside = [(cut, 3.0) for cut in sorted({max(1, tokens // 2), tokens - 1})]
        found["other lengths"] = max(found["other lengths"], _leak(mechanism, inputs, tokens, 1, beside))
    found["large batch"] = _leak(mechanism, inputs, min(8, full), 16, [(1 + i % 7, 3.0) for i in range(176)])
    mechanism.float()
    for batch in sorted({bench.batch, *OTHER_BATCHES}):
        trained, bases = batch == bench.batch, max(1, batch // 8)
        many = [(cuts[(7 * i) % len(cuts)], (3.0, 1.0)[i % 2]) for i in range(batch - bases)]
        mechanism.train(trained)
        name = "training batch" if trained else "other batches"
        value = _leak(mechanism, inputs, full, bases, many, text=not trained, gradient=trained)
        found[name] = max(found.get(name, 0.0), value)
        with torch.autocast("cpu", torch.bfloat16):
            value = _leak(mechanism, inputs, full, bases, many, text=not trained)
        found["autocast"] = max(found.get("autocast", 0.0), value)
    mechanism.eval().double()
    limits = {"training batch": SINGLE, "other batches": SINGLE, "autocast": HALF}
    for name, value in found.items():
        yield measured(f"integrity.causality ({name})", value, limits.get(name, EXACT), _LEAK)


def _leak(
    mechanism: Mechanism,
    inputs: Inputs,
    tokens: int,
    bases: int,
    changes: list[tuple[int, float]],
    *,
    text: bool = False,
    gradient: bool = False,
) -> float:
    """Return the largest change of outputs before the cuts, over `bases` rows and one more row per change."""
    kind = next((item.dtype for item in mechanism.parameters()), torch.float32)
    x, v = inputs(bases, tokens, text=text)
    x, v, cut = inputs.replaced(x.to(kind), v.to(kind), changes, text)
    with torch.set_grad_enabled(gradient):
        y = mechanism(x.requires_grad_(gradient), v)
    return before_cuts(y, bases, cut) if y.shape == v.shape else math.inf
