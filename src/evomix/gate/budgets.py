"""Budgets of a candidate relative to the framework's standard: parameters, buffers, floating-point operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from evomix.gate.refusal import measured, outcome
from evomix.mechanisms import library
from evomix.mechanisms.contract import Mechanism, build_mechanism
from evomix.mechanisms.costs import measured_flops
from evomix.model.flops import shell_flops
from evomix.model.sizes import non_embedding_parameters
from evomix.specs import Architecture

_STATED = 2.0
"""A candidate's own `flops` may differ from the measured count by this factor either way."""


def check(
    kind: type[Mechanism], architecture: Architecture, parameter_budget: float, flop_budget: float
) -> list[dict[str, Any]]:
    """Return the records of the budgets at one shape of the shell.

    Parameters are the model's non-embedding ones, with every buffer of numbers counted as if it were one (large fixed
    features are a way around the budget). FLOPs are those counted while one sequence runs, never those stated.
    """
    a = architecture
    standard = library.load(library.standard(kind.framework), kind.framework)
    own, usual = (build_mechanism(item, a.width, a.heads, 1, "gate") for item in (kind, standard))
    base = non_embedding_parameters(a.width, a.layers)
    size = (base + a.layers * (_numbers(own) - _numbers(usual))) / base
    shell = shell_flops(a.width, a.layers, a.vocabulary)
    costs = [measured_flops(item, a.sequence_length) / a.sequence_length for item in (own, usual)]
    flops = (shell + a.layers * costs[0]) / (shell + a.layers * costs[1])
    stated = own.flops(a.sequence_length) / a.sequence_length / costs[0] if costs[0] else 1.0
    where = f"(width {a.width}, {a.layers} layers)"
    return [
        measured(
            f"budget.parameters {where}", size, parameter_budget,
            f"The model would have {size:.2f} times the standard's parameters; remove or narrow some maps or buffers.",
        ),
        measured(
            f"budget.flops {where}", flops, flop_budget,
            f"A token would cost {flops:.2f} times the standard's operations; use fewer or cheaper ones.",
        ),
        outcome(
            f"budget.statement {where}", "integrity", float(f"{stated:.3g}"), _STATED, 1 / _STATED <= stated <= _STATED,
            "The method `flops` does not state what the mechanism costs; delete it, the cost is then measured.",
        ),
    ]  # fmt: skip


def _numbers(mechanism: Mechanism) -> int:
    """Count the parameters and buffers (masks of truth values aside), each tensor once however often it is shared."""
    tensors: list[Tensor] = [*mechanism.parameters(), *mechanism.buffers()]
    counted = {id(item): item for item in tensors if item.dtype != torch.bool}
    return sum(
        item.numel() * (2 if item.dtype in (torch.complex64, torch.complex128) else 1) for item in counted.values()
    )
