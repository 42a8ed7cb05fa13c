"""Is a mechanism the coefficient dynamic that it declares? Measured on its materialised coefficients."""

from __future__ import annotations

import torch

from evomix.mechanisms.coefficient_dynamics.contract import CoefficientDynamics
from evomix.mechanisms.coefficient_dynamics.responses import Evolution, step_by_step
from evomix.mechanisms.matrices import mixing_matrix
from evomix.mechanisms.measurement import LONGEST, Measurement, Probe, difference, linearity, rank_below_diagonal

_FIELDS = {
    "identity": frozenset[str](),
    "scalar": frozenset({"log_scalar_BHT"}),
    "diagonal": frozenset({"log_scalar_BHT", "log_diagonal_BHTN"}),
    "householder": frozenset({"log_scalar_BHT", "log_diagonal_BHTN", "direction_BHTN", "strength_BHT"}),
    "drift": frozenset({"drift_BHT"}),
}
_SMALLEST = 1e-250
"""Coefficients below this have lost the digits that a rank of their logarithms needs."""


def measure(mechanism: CoefficientDynamics, probe: Probe) -> list[Measurement]:
    """Run all tests of membership."""
    declaration = mechanism.declaration
    state = declaration.state or mechanism.head_width
    results = linearity(mechanism, probe)
    results.append(_formalism(mechanism, probe))
    results.append(_declared_parts(mechanism, probe, state))
    results.append(_readout(mechanism, probe))
    if declaration.readout in ("linear", "exp"):
        results += _ranks(mechanism, probe, state)
    if declaration.normaliser == "row_sum":
        rows = mixing_matrix(mechanism, probe.x(2, 33)).sum(-1)
        results.append(Measurement("M2", "rows sum to one", difference(rows, torch.ones_like(rows)), 1e-9))
    return results


def _formalism(mechanism: CoefficientDynamics, probe: Probe) -> Measurement:
    """Compare what forward does with the linear systems run one step at a time."""
    x = probe.x(1, LONGEST)
    defined = mechanism.weigh(step_by_step(*mechanism.dynamics(x)))
    gap = difference(mixing_matrix(mechanism, x), defined)
    return Measurement("F1", "mixing equals the linear systems run step by step", gap, 1e-9)


def _declared_parts(mechanism: CoefficientDynamics, probe: Probe, state: int) -> Measurement:
    """Count departures of the dynamics from the declared evolution, state size and normaliser."""
    query, impulse, evolution = mechanism.dynamics(probe.x(2, 9))
    used = {name for name in Evolution._fields if getattr(evolution, name) is not None}
    faults = len(used - _FIELDS[mechanism.declaration.evolution])
    faults += int(query.shape[-1] != state) + int(impulse.shape[-1] != state)
    if mechanism.declaration.normaliser == "none":
        eta = mechanism.normaliser(probe.normal(2, mechanism.heads, 9, 9, name="weight"))
        faults += int(not torch.equal(eta, torch.ones_like(eta)))
    return Measurement("F2", "evolution, state size and normaliser are the declared ones", float(faults), 0.0)


def _readout(mechanism: CoefficientDynamics, probe: Probe) -> Measurement:
    """Change some scores and see that the readouts of the others move by one common factor per row at most."""
    score = probe.normal(2, mechanism.heads, 12, 12, name="score")
    changed = score.clone()
    changed[..., 6:] = probe.normal(2, mechanism.heads, 12, 6, name="other score")
    before, after = mechanism.readout(score)[..., :6], mechanism.readout(changed)[..., :6]
    factor = (before * after).sum(-1, keepdim=True) / before.square().sum(-1, keepdim=True).clamp(min=1e-300)
    gap = difference(factor * before, after)
    if mechanism.declaration.readout == "linear":
        gap = max(
            gap,
            difference(
                mechanism.readout(2.0 * score - changed), 2.0 * mechanism.readout(score) - mechanism.readout(changed)
            ),
        )
    return Measurement("F3", "the readout acts on each score by itself", gap, 1e-9)


def _ranks(mechanism: CoefficientDynamics, probe: Probe, state: int) -> list[Measurement]:
    """Tests C1 and C2: the rank that a finite state leaves in the coefficients or in their logarithms."""
    if mechanism.declaration.readout == "linear":
        bound, name, meaning = state, "C1", "rank of the coefficients at a cut ≤ state size"
    else:
        bound = state + (2 if mechanism.declaration.evolution == "drift" else 1)
        name, meaning = "C2", "rank of log coefficients at a cut ≤ state size + 1 (+ 1 with drift)"
    tokens = max(24, 3 * (bound + 2))
    ranks = []
    for length in (tokens, 2 * tokens):
        matrix = mixing_matrix(mechanism, probe.x(1, length))
        if name == "C2":
            past = torch.ones(length, length, dtype=torch.bool).tril()
            if float(matrix[..., past].amin()) < _SMALLEST:
                continue
            matrix = torch.where(past, matrix, 1.0).log()
        ranks.append(rank_below_diagonal(matrix, include_diagonal=True))
    return [Measurement(name, meaning, float(max(ranks)), float(bound))] if ranks else []
