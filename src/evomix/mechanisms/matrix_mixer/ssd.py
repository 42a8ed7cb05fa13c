"""Mamba-2's SSD as a matrix mixer: an N-semiseparable matrix.

    M[t, i] = C_tᵀ (∏_{i<l≤t} a_l) B_i Δ_i,   a = exp(−α Δ),   Δ = softplus(W_Δ x + c)

Source: Dao & Gu 2024 (arXiv 2405.21060), the mixing only: no convolution, gate or skip. Start: Δ log-uniform in
[1e-3, 0.1], α uniform in [0.5, 4].
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evomix.mechanisms.matrix_mixer.contract import Declaration, MatrixMixer
from evomix.mechanisms.operators import (
    segment_sums,
    semiseparable_flops,
    semiseparable_product,
    softplus_inverse,
)


# EVOLVE-BLOCK-START
class Mechanism(MatrixMixer):
    """Semiseparable matrix; the product runs through chunk states."""

    declaration = Declaration(structure="semiseparable")

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

    def generators(self, x_BTD: Tensor) -> tuple[Tensor, ...]:
        step = F.softplus(self.step(x_BTD)).transpose(-2, -1)
        log_decay = -torch.exp(self.log_rate).unsqueeze(-1) * step
        right = step.unsqueeze(-1) * self.split_heads(self.key(x_BTD))
        return self.split_heads(self.query(x_BTD)), right, log_decay

    def matrix(self, left_BHTN: Tensor, right_BHTN: Tensor, log_decay_BHT: Tensor) -> Tensor:
        return (left_BHTN @ right_BHTN.mT) * torch.exp(segment_sums(log_decay_BHT))

    def multiply(self, generators: tuple[Tensor, ...], v_BHTP: Tensor) -> Tensor:
        left, right, log_decay = generators
        return semiseparable_product(left, right, log_decay, v_BHTP)

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2 + 2 * tokens * self.width * self.heads
        return (
            projections + semiseparable_flops(tokens, self.width, self.head_width, self.heads) + 4 * tokens * self.width
        )


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: the recurrence S ← a S + B Δ vᵀ, y = Sᵀ C."""
    left, right, log_decay = mechanism.generators(x_BTD)
    state = torch.zeros_like(right[..., :1, :].mT @ v_BHTP[..., :1, :])
    rows = []
    for t in range(x_BTD.shape[-2]):
        state = torch.exp(log_decay[..., t, None, None]) * state + right[..., t, :, None] * v_BHTP[..., t, None, :]
        rows.append((left[..., t, None, :] @ state).squeeze(-2))
    return torch.stack(rows, -2)
