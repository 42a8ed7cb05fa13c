"""Tests of behaviour that hold for every framework: shapes, causality, batch independence, no memory, no randomness.

Causality is tested by replacing the future, which also catches hard choices (argmax, routing) that have no derivative.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from evomix.mechanisms.contract import Mechanism
from evomix.mechanisms.measurement import Measurement, Probe, difference, magnitude

CUTS = {8: (1, 7), 16: (8, 15), 33: (1, 15, 16, 31, 32), 65: (32, 63, 64), 129: (1, 64, 65, 127, 128)}
"""Lengths and the cuts after which the future is replaced; around powers of two, where chunked code errs."""
NOISE = (1.0, 10.0, 1e4)
"""Scales of the noise that replaces the future of x; the largest makes finite masks leak. Values stay below 10."""
ROUNDING = 1e-13
"""Allowance for round-off, relative to the largest output of the whole sequence."""
PREFIXES = (1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128)


def future_leak(mechanism: Mechanism, probe: Probe) -> float:
    """Return the largest relative change of y before a cut when x and v after it are replaced by noise (test G2).

    A variant whose own future overflows says nothing: a mask that multiplies by zero turns infinity into NaN, and an
    honest but unstable recurrence may overflow on large noise or weights. If no variant says anything although the
    output without noise is finite, the result is infinite.
    """
    found: list[float] = []
    finite = True
    for tokens, cuts in CUTS.items():
        x, v = probe.x(1, tokens), probe.v(1, tokens)
        variants = [(x, v)]
        for cut in cuts:
            for scale in NOISE:
                later_x, later_v = x.clone(), v.clone()
                later_x[:, cut:] = scale * probe.normal(1, tokens - cut, probe.width, name=f"future {scale}")
                later_v[:, :, cut:] = min(scale, 10.0) * probe.v(1, tokens - cut, f"future value {scale}")
                variants.append((later_x, later_v))
        y = mechanism(torch.cat([item[0] for item in variants]), torch.cat([item[1] for item in variants]))
        places = [cut for cut in cuts for _ in NOISE]
        for row, cut in enumerate(places, start=1):
            if bool(y[row, :, cut:].isfinite().all()):
                found.append(_before_cut(y[0], y[row], cut))
        finite = finite and bool(y[0].isfinite().all())
    return max(found) if found else math.inf if finite else 0.0


def _before_cut(y_HTP: Tensor, other_HTP: Tensor, cut: int) -> float:
    """Compare outputs before the cut; an FFT may round on the scale of its largest term, wherever that stands."""
    past, other_past = y_HTP[:, :cut], other_HTP[:, :cut]
    gap = difference(past, other_past, 1.0)
    rounding = ROUNDING * magnitude(y_HTP, other_HTP)
    return max(0.0, gap - rounding) / max(magnitude(past, other_past), 1e-300)


def prefix_gap(mechanism: Mechanism, probe: Probe) -> float:
    """Return the largest relative difference between f(x[:t]) and f(x)[:t] (test G3), at a length without overflow."""
    for tokens in sorted(CUTS, reverse=True):
        x, v = probe.x(2, tokens), probe.v(2, tokens)
        y = mechanism(x, v)
        if bool(y.isfinite().all()):
            break
    return max(difference(mechanism(x[:, :t], v[:, :, :t]), y[:, :, :t]) for t in PREFIXES if t < tokens)


def batch_gap(mechanism: Mechanism, probe: Probe) -> float:
    """Return the largest difference that batch size, batch order or a missing batch dimension makes (test G6)."""
    x, v = probe.x(5, 17), probe.v(5, 17)
    y = mechanism(x, v)
    order = torch.tensor([3, 0, 4, 1, 2])
    return max(
        difference(mechanism(x[:1], v[:1]), y[:1]),
        difference(mechanism(x[order], v[order]), y[order]),
        difference(mechanism(x[2], v[2]), y[2]),
    )


def repeat_gap(mechanism: Mechanism, probe: Probe) -> float:
    """Return the difference between two equal calls with fifty others between, or infinity if state changed (G7)."""
    x, v = probe.x(2, 17), probe.v(2, 17)
    before = {name: tensor.clone() for name, tensor in mechanism.state_dict().items()}
    y = mechanism(x, v)
    again = mechanism(x, v)
    for call in range(50):
        tokens = 1 + call % 5
        mechanism(probe.x(1, tokens, "between"), probe.v(1, tokens, "between"))
    later = mechanism(x, v)
    after = mechanism.state_dict()
    kept = before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    return max(difference(y, again), difference(y, later)) if kept else math.inf


def mode_gap(mechanism: Mechanism, probe: Probe) -> float:
    """Return the difference between training and evaluation mode; the shell owns all dropout (test G8)."""
    x, v = probe.x(2, 33), probe.v(2, 33)
    training = mechanism.training
    outputs = [mechanism.train(mode)(x, v) for mode in (True, False)]
    mechanism.train(training)
    return difference(*outputs)


def randomness(mechanism: Mechanism, probe: Probe) -> float:
    """Return 0 when a forward pass leaves the global random state alone, 1 otherwise (test G9)."""
    before = torch.get_rng_state()
    mechanism(probe.x(2, 17), probe.v(2, 17))
    return float(not torch.equal(before, torch.get_rng_state()))


def soundness(mechanism: Mechanism, probe: Probe) -> float:
    """Return the number of inputs whose output has a wrong shape or type or is not finite (test G1)."""
    faults = 0
    for scale, tokens in ((1.0, 17), (0.0, 17), (10.0, 17), (1.0, 1), (1.0, 2)):
        x, v = scale * probe.x(2, tokens), scale * probe.v(2, tokens)
        y = mechanism(x, v)
        faults += int(y.shape != v.shape or y.dtype != v.dtype or not bool(y.isfinite().all()))
    return float(faults)


def measure(mechanism: Mechanism, probe: Probe, sound: bool) -> list[Measurement]:
    """Run all tests of behaviour in the mechanism's present mode; `sound` adds G1 (not asked of extreme weights)."""
    results = [
        Measurement("G2", "the future does not change the past", future_leak(mechanism, probe), 1e-9),
        Measurement("G3", "the output does not depend on the total length", prefix_gap(mechanism, probe), 1e-9),
        Measurement("G6", "rows of a batch are independent", batch_gap(mechanism, probe), 1e-9),
        Measurement("G7", "equal calls give equal outputs, weights stay", repeat_gap(mechanism, probe), 0.0),
        Measurement("G8", "training and evaluation mode agree", mode_gap(mechanism, probe), 0.0),
        Measurement("G9", "the global random state is untouched", randomness(mechanism, probe), 0.0),
    ]
    if sound:
        results.insert(0, Measurement("G1", "right shape, right type, finite", soundness(mechanism, probe), 0.0))
    return results
