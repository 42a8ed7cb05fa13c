"""Causal quasiseparable mixer: a semiseparable matrix shifted below the diagonal, and a free diagonal.

    M[t, i] = C_{t−1}ᵀ (∏_{i<l<t} a_l) B_i Δ_i for i < t,   M[t, t] = δ_t,   δ = W_δ x + c

Source: Hwang et al. 2024 (arXiv 2407.09941), the causal half of Hydra: shift(SSD) + diag(δ). A token's weight for
itself is independent of its weights for the past, as it is not in SSD.
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
    """Strictly lower semiseparable part by chunk states, plus a diagonal."""

    declaration = Declaration(structure="quasiseparable")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.step = nn.Linear(width, heads)
        self.own = nn.Linear(width, heads)
        self.log_rate = nn.Parameter(torch.zeros(heads))

    def initialise(self) -> None:
        step = torch.exp(torch.empty(self.heads).uniform_(math.log(1e-3), math.log(0.1)))
        self.step.bias.copy_(softplus_inverse(step))
        self.log_rate.copy_(torch.empty(self.heads).uniform_(0.5, 4.0).log())
        self.own.bias.fill_(1.0)

    def generators(self, x_BTD: Tensor) -> tuple[Tensor, ...]:
        step = F.softplus(self.step(x_BTD)).transpose(-2, -1)
        log_decay = -torch.exp(self.log_rate).unsqueeze(-1) * step
        right = step.unsqueeze(-1) * self.split_heads(self.key(x_BTD))
        return self.split_heads(self.query(x_BTD)), right, log_decay, self.own(x_BTD).transpose(-2, -1)

    def matrix(self, left_BHTN: Tensor, right_BHTN: Tensor, log_decay_BHT: Tensor, own_BHT: Tensor) -> Tensor:
        lower = (left_BHTN @ right_BHTN.mT) * torch.exp(segment_sums(log_decay_BHT))
        return F.pad(lower, (0, 0, 1, -1)) + torch.diag_embed(own_BHT)

    def multiply(self, generators: tuple[Tensor, ...], v_BHTP: Tensor) -> Tensor:
        left, right, log_decay, own = generators
        lower = semiseparable_product(left, right, log_decay, v_BHTP)
        return F.pad(lower, (0, 0, 1, -1)) + own.unsqueeze(-1) * v_BHTP

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2 + 4 * tokens * self.width * self.heads
        return (
            projections + semiseparable_flops(tokens, self.width, self.head_width, self.heads) + 6 * tokens * self.width
        )


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: read the state of the token before, then update it: y_t = S_{t−1}ᵀ C_{t−1} + δ_t v_t."""
    left, right, log_decay, own = mechanism.generators(x_BTD)
    state = torch.zeros_like(right[..., :1, :].mT @ v_BHTP[..., :1, :])
    reading = torch.zeros_like(v_BHTP[..., 0, :])
    rows = []
    for t in range(x_BTD.shape[-2]):
        rows.append(reading + own[..., t, None] * v_BHTP[..., t, :])
        state = torch.exp(log_decay[..., t, None, None]) * state + right[..., t, :, None] * v_BHTP[..., t, None, :]
        reading = (left[..., t, None, :] @ state).squeeze(-2)
    return torch.stack(rows, -2)
