"""Gated DeltaNet: each step decays every state and removes part of it along the new key.

    A_t = γ_t (I − β_t k_t k_tᵀ),   h_{j,j} = β_j k_j,   linear readout;   γ = exp(−a Δ), Δ = softplus(W_Δ x + c)

Source: Yang, Kautz & Hatamizadeh 2024 (arXiv 2412.06464), the mixing only. Keys and queries pass SiLU and have unit
length. All states at once by one triangular solve.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evomix.mechanisms.coefficient_dynamics.contract import CoefficientDynamics, Declaration, Dynamics
from evomix.mechanisms.coefficient_dynamics.responses import Evolution
from evomix.mechanisms.operators import keep_past, l2_normalise, segment_sums, softplus_inverse, solve_unit_lower


# EVOLVE-BLOCK-START
class Mechanism(CoefficientDynamics):
    """Scalar decay times Householder-like removal, linear readout, scaling b = β."""

    declaration = Declaration(readout="linear", evolution="householder", normaliser="none")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.rate = nn.Linear(width, heads)
        self.step = nn.Linear(width, heads)
        self.log_rate = nn.Parameter(torch.zeros(heads))

    def initialise(self) -> None:
        step = torch.exp(torch.empty(self.heads).uniform_(math.log(1e-3), math.log(0.1)))
        self.step.bias.copy_(softplus_inverse(step))
        self.log_rate.copy_(torch.empty(self.heads).uniform_(0.5, 4.0).log())

    def queries(self, x_BTD: Tensor) -> Tensor:
        return l2_normalise(F.silu(self.split_heads(self.query(x_BTD))))

    def keys(self, x_BTD: Tensor) -> Tensor:
        return l2_normalise(F.silu(self.split_heads(self.key(x_BTD))))

    def scaling(self, x_BTD: Tensor) -> Tensor:
        return torch.sigmoid(self.rate(x_BTD)).transpose(-2, -1)

    def evolution(self, x_BTD: Tensor, key_BHTN: Tensor) -> Evolution:
        log_decay = -torch.exp(self.log_rate).unsqueeze(-1) * F.softplus(self.step(x_BTD)).transpose(-2, -1)
        return Evolution(log_scalar_BHT=log_decay, direction_BHTN=key_BHTN, strength_BHT=self.scaling(x_BTD))

    def mix(self, dynamics: Dynamics, v_BHTP: Tensor) -> Tensor:
        log_decay, key = dynamics.evolution.log_scalar_BHT, dynamics.evolution.direction_BHTN
        strength = dynamics.evolution.strength_BHT
        assert log_decay is not None
        assert key is not None
        assert strength is not None
        decay = torch.exp(segment_sums(log_decay))
        coupling = keep_past((dynamics.impulse_BHTN @ key.mT) * decay, strict=True)
        update = solve_unit_lower(coupling, strength.unsqueeze(-1) * v_BHTP)
        return ((dynamics.query_BHTN @ key.mT) * decay) @ update.to(decay.dtype)

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2 + 6 * tokens * self.width * self.heads
        products_and_solve = 7 * tokens**2 * self.width
        return projections + products_and_solve + 6 * self.heads * tokens**2 + 16 * tokens * self.width


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: the recurrence S ← γ S, then S ← S + β k (v − Sᵀk)ᵀ, y = Sᵀ q."""
    q, k, rate = mechanism.queries(x_BTD), mechanism.keys(x_BTD), mechanism.scaling(x_BTD)
    step = F.softplus(mechanism.step(x_BTD)).transpose(-2, -1)
    decay = torch.exp(-step * torch.exp(mechanism.log_rate).unsqueeze(-1))
    state = torch.zeros_like(k[..., :1, :].mT @ v_BHTP[..., :1, :])
    rows = []
    for t in range(x_BTD.shape[-2]):
        state = decay[..., t, None, None] * state
        error = v_BHTP[..., t, :] - (k[..., t, None, :] @ state).squeeze(-2)
        state = state + rate[..., t, None, None] * k[..., t, :, None] * error.unsqueeze(-2)
        rows.append((q[..., t, None, :] @ state).squeeze(-2))
    return torch.stack(rows, -2)
