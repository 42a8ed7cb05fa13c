"""Parallax: softmax attention plus one gradient step of a local slope, read in a learned direction.

    y_t = Σ_i w_ti [1 + Σ_j w_tj r_tᵀ k_j − r_tᵀ k_i] v_i,   w = softmax(q kᵀ/√N),   r = W_r x (zero at the start)

As a regression: a local affine fit whose slope takes one unit gradient step from zero, evaluated at k̄_t − r_t. With
W_r = 0 it is softmax attention.
"""

import math

import torch
from torch import Tensor, nn

from evomix.mechanisms.test_time_regression.contract import Declaration, TestTimeRegression


# EVOLVE-BLOCK-START
class Mechanism(TestTimeRegression):
    """Local affine fit, one gradient step, learned displacement."""

    declaration = Declaration(estimator="local_linear_step")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.shift = nn.Linear(width, width, bias=False)

    def initialise(self) -> None:
        self.shift.weight.zero_()

    def queries(self, x_BTD: Tensor) -> Tensor:
        return self.split_heads(self.query(x_BTD)) / math.sqrt(self.head_width)

    def keys(self, x_BTD: Tensor) -> Tensor:
        return self.split_heads(self.key(x_BTD))

    def displacement(self, x_BTD: Tensor) -> Tensor:
        return -self.split_heads(self.shift(x_BTD))

    def flops(self, tokens: int) -> int:
        projections = 6 * tokens * self.width**2
        return projections + 8 * tokens**2 * self.width + 9 * self.heads * tokens**2


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: the equation as printed, one query at a time."""
    q, k = mechanism.queries(x_BTD), mechanism.keys(x_BTD)
    r = mechanism.split_heads(mechanism.shift(x_BTD))
    rows = []
    for t in range(x_BTD.shape[-2]):
        weight = torch.softmax((k[..., : t + 1, :] * q[..., t, None, :]).sum(-1), -1)
        reading = (k[..., : t + 1, :] * r[..., t, None, :]).sum(-1)
        tilted = weight * (1 + (weight * reading).sum(-1, keepdim=True) - reading)
        rows.append((tilted.unsqueeze(-2) @ v_BHTP[..., : t + 1, :]).squeeze(-2))
    return torch.stack(rows, -2)
