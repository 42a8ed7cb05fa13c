"""Mamba-2's state space duality (SSD): a scalar decay and an impulse scaled by the same step size Δ.

    h_{j,j} = Δ_j k_j,   A_i = exp(−a Δ_i),   α_{i,j} = Γ_{i,j} q_iᵀ k_j Δ_j,   Δ = softplus(W_Δ x + c)

Source: Dao & Gu 2024 (arXiv 2405.21060), the mixing only: no convolution, gate or skip. Start: Δ log-uniform in
[1e-3, 0.1], a uniform in [0.5, 4] (for at most 512 tokens).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evomix.mechanisms.coefficient_dynamics.contract import CoefficientDynamics, Declaration
from evomix.mechanisms.coefficient_dynamics.responses import Evolution
from evomix.mechanisms.operators import softplus_inverse


# EVOLVE-BLOCK-START
class Mechanism(CoefficientDynamics):
    """Scalar data-dependent decay, linear readout, scaling b = Δ."""

    declaration = Declaration(readout="linear", evolution="scalar", normaliser="none")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.step = nn.Linear(width, heads)
        self.log_rate = nn.Parameter(torch.zeros(heads))

    def initialise(self) -> None:
        step = torch.exp(torch.empty(self.heads).uniform_(math.log(1e-3), math.log(0.1)))
        self.step.bias.copy_(softplus_inverse(step))
        self.log_rate.copy_(torch.empty(self.heads).uniform_(0.5, 4.0).log())

    def queries(self, x_BTD: Tensor) -> Tensor:
        return self.split_heads(self.query(x_BTD))

    def keys(self, x_BTD: Tensor) -> Tensor:
        return self.split_heads(self.key(x_BTD))

    def scaling(self, x_BTD: Tensor) -> Tensor:
        return F.softplus(self.step(x_BTD)).transpose(-2, -1)

    def evolution(self, x_BTD: Tensor, key_BHTN: Tensor) -> Evolution:
        rate = torch.exp(self.log_rate).unsqueeze(-1)
        return Evolution(log_scalar_BHT=-rate * self.scaling(x_BTD))

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2 + 4 * tokens * self.width * self.heads
        return projections + 4 * tokens**2 * self.width + 4 * self.heads * tokens**2 + tokens * self.width


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: the recurrence S ← exp(−aΔ) S + Δ k vᵀ, y = Sᵀ q."""
    q, k = mechanism.queries(x_BTD), mechanism.keys(x_BTD)
    step = F.softplus(mechanism.step(x_BTD)).transpose(-2, -1)
    decay = torch.exp(-step * torch.exp(mechanism.log_rate).unsqueeze(-1))
    state = torch.zeros_like(k[..., :1, :].mT @ v_BHTP[..., :1, :])
    rows = []
    for t in range(x_BTD.shape[-2]):
        impulse = step[..., t, None, None] * k[..., t, :, None]
        state = decay[..., t, None, None] * state + impulse * v_BHTP[..., t, None, :]
        rows.append((q[..., t, None, :] @ state).squeeze(-2))
    return torch.stack(rows, -2)
