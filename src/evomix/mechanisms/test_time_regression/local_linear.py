"""Local linear attention: an affine fit around every query instead of softmax's constant fit.

    y_t = Σ_i w_ti [1 + (k_i − k̄_t)ᵀ (Σ_t + Λ)⁻¹ (q_t − k̄_t)] v_i,   w_ti ∝ exp(√N q̂_tᵀ k̂_i)

k̄_t and Σ_t are the weighted mean and covariance of the keys. Source: Zuo et al. 2025 (arXiv 2510.01450). An affine fit
has no bias at the edge of the keys, where a constant fit has. Keys and queries have unit length.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evomix.mechanisms.operators import l2_normalise
from evomix.mechanisms.test_time_regression.contract import Declaration, TestTimeRegression


# EVOLVE-BLOCK-START
class Mechanism(TestTimeRegression):
    """Weighted affine fit with a ridge penalty on its slope."""

    declaration = Declaration(estimator="local_linear")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.stiffness = nn.Parameter(torch.zeros(heads))

    def queries(self, x_BTD: Tensor) -> Tensor:
        return l2_normalise(self.split_heads(self.query(x_BTD)))

    def keys(self, x_BTD: Tensor) -> Tensor:
        return l2_normalise(self.split_heads(self.key(x_BTD)))

    def log_kernel(self, query_BHTN: Tensor, key_BHTN: Tensor) -> Tensor:
        return math.sqrt(self.head_width) * (query_BHTN @ key_BHTN.mT)

    def penalty(self, x_BTD: Tensor) -> Tensor:
        return 0.25 + F.softplus(self.stiffness)[:, None, None]

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2
        moments = 2 * tokens**2 * self.width * self.head_width
        solves = tokens * self.heads * (2 * self.head_width**3 // 3 + 2 * self.head_width**2)
        return projections + moments + solves + 8 * tokens**2 * self.width + 8 * self.heads * tokens**2


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: at every token, weighted least squares of the values on [1, k − q] with the slope penalised."""
    q, k = mechanism.queries(x_BTD), mechanism.keys(x_BTD)
    penalty = 0.25 + F.softplus(mechanism.stiffness)
    size = mechanism.head_width + 1
    ridge = torch.diag(torch.ones(size, dtype=x_BTD.dtype)) * penalty[:, None, None]
    ridge = ridge * (torch.arange(size) > 0)
    rows = []
    for t in range(x_BTD.shape[-2]):
        near, value = k[..., : t + 1, :], v_BHTP[..., : t + 1, :]
        score = math.sqrt(mechanism.head_width) * (near * q[..., t, None, :]).sum(-1, keepdim=True)
        weight = torch.softmax(score, -2)
        design = torch.cat([torch.ones_like(weight), near - q[..., t, None, :]], -1)
        fit = torch.linalg.solve((weight * design).mT @ design + ridge, (weight * design).mT @ value)
        rows.append(fit[..., 0, :])
    return torch.stack(rows, -2)
