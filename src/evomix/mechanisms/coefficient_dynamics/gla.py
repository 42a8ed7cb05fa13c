"""Gated linear attention (GLA): every coordinate of the state decays by its own data-dependent gate.

    h_{i,j} = diag(γ_i) h_{i−1,j},   α_{i,j} = Σ_n q_in k_jn exp(Σ_{j<l≤i} log γ_ln),   log γ = log σ(W₂ W₁ x + c) / 16

Source: Yang et al. 2024 (arXiv 2312.06635). Chunked: the T × T × N tensor of decays never exists.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evomix.mechanisms.coefficient_dynamics.contract import CoefficientDynamics, Declaration, Dynamics
from evomix.mechanisms.coefficient_dynamics.responses import (
    Evolution,
    chunked_diagonal,
    chunked_diagonal_flops,
)


# EVOLVE-BLOCK-START
class Mechanism(CoefficientDynamics):
    """Diagonal decay from a gate of rank 16, linear readout."""

    RANK = 16
    SLOWNESS = 16.0
    declaration = Declaration(readout="linear", evolution="diagonal", normaliser="none")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.gate_in = nn.Linear(width, self.RANK, bias=False)
        self.gate_out = nn.Linear(self.RANK, width)

    def queries(self, x_BTD: Tensor) -> Tensor:
        return self.split_heads(self.query(x_BTD))

    def keys(self, x_BTD: Tensor) -> Tensor:
        return self.split_heads(self.key(x_BTD)) / math.sqrt(self.head_width)

    def evolution(self, x_BTD: Tensor, key_BHTN: Tensor) -> Evolution:
        gate = self.split_heads(self.gate_out(self.gate_in(x_BTD)))
        return Evolution(log_diagonal_BHTN=F.logsigmoid(gate) / self.SLOWNESS)

    def mix(self, dynamics: Dynamics, v_BHTP: Tensor) -> Tensor:
        log_gate = dynamics.evolution.log_diagonal_BHTN
        assert log_gate is not None
        return chunked_diagonal(dynamics.query_BHTN, dynamics.impulse_BHTN, log_gate, v_BHTP)

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2 + 4 * tokens * self.width * self.RANK
        return projections + chunked_diagonal_flops(tokens, self.width, self.head_width) + 4 * tokens * self.width


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: the recurrence S ← diag(γ) S + k vᵀ, y = Sᵀ q."""
    q, k = mechanism.queries(x_BTD), mechanism.keys(x_BTD)
    gate = mechanism.split_heads(mechanism.gate_out(mechanism.gate_in(x_BTD)))
    decay = torch.sigmoid(gate) ** (1 / mechanism.SLOWNESS)
    state = torch.zeros_like(k[..., :1, :].mT @ v_BHTP[..., :1, :])
    rows = []
    for t in range(x_BTD.shape[-2]):
        state = decay[..., t, :, None] * state + k[..., t, :, None] * v_BHTP[..., t, None, :]
        rows.append((q[..., t, None, :] @ state).squeeze(-2))
    return torch.stack(rows, -2)
