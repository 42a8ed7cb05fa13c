"""Softmax attention as a coefficient dynamic: no evolution, exponential readout, row-sum normaliser.

    h_{i,j} = k_j,   α_{i,j} = exp(q_iᵀ k_j) / Σ_{l≤i} exp(q_iᵀ k_l),   q = W_q x / √N

Source: Vaswani et al. 2017; as a coefficient dynamic, Sieber et al. 2025 (arXiv 2510.09389).
"""

import math

import torch
from torch import Tensor, nn

from evomix.mechanisms.coefficient_dynamics.contract import CoefficientDynamics, Declaration


# EVOLVE-BLOCK-START
class Mechanism(CoefficientDynamics):
    """Constant states, exponential readout."""

    declaration = Declaration(readout="exp", evolution="identity", normaliser="row_sum")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)

    def queries(self, x_BTD: Tensor) -> Tensor:
        return self.split_heads(self.query(x_BTD)) / math.sqrt(self.head_width)

    def keys(self, x_BTD: Tensor) -> Tensor:
        return self.split_heads(self.key(x_BTD))

    def readout(self, score_BHTT: Tensor) -> Tensor:
        return torch.exp(score_BHTT - score_BHTT.amax(-1, keepdim=True).detach())

    def normaliser(self, weight_BHTT: Tensor) -> Tensor:
        return weight_BHTT.sum(-1, keepdim=True)

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2
        return projections + 4 * tokens**2 * self.width + 6 * self.heads * tokens**2


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: one query at a time over the tokens so far."""
    q, k = mechanism.queries(x_BTD), mechanism.keys(x_BTD)
    rows = []
    for t in range(x_BTD.shape[-2]):
        weight = torch.softmax(torch.einsum("...n,...jn->...j", q[..., t, :], k[..., : t + 1, :]), -1)
        rows.append(torch.einsum("...j,...jp->...p", weight, v_BHTP[..., : t + 1, :]))
    return torch.stack(rows, -2)
