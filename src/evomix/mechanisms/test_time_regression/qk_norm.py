"""Softmax attention with QK-norm: a local constant estimator on the unit sphere with a learned bandwidth.

    K(q, k) = exp(τ q̂ᵀ k̂),   q̂ = q/‖q‖,  k̂ = k/‖k‖,   y_t = Σ_i K(q_t, k_i) v_i / Σ_i K(q_t, k_i)

Source: Henry et al. 2020 (arXiv 2010.04245). On the sphere the exponential kernel is the Gaussian kernel of bandwidth
1/√τ, so the estimator is exactly Nadaraya–Watson.
"""

import torch
from torch import Tensor, nn

from evomix.mechanisms.operators import l2_normalise
from evomix.mechanisms.test_time_regression.contract import Declaration, TestTimeRegression


# EVOLVE-BLOCK-START
class Mechanism(TestTimeRegression):
    """Local constant fit with unit keys and queries; one inverse bandwidth τ per head, starting from 8 to 10."""

    declaration = Declaration(estimator="local_constant")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.temperature = nn.Parameter(torch.ones(heads))

    def initialise(self) -> None:
        self.temperature.copy_(torch.linspace(8.0, 10.0, self.heads))

    def queries(self, x_BTD: Tensor) -> Tensor:
        return l2_normalise(self.split_heads(self.query(x_BTD)))

    def keys(self, x_BTD: Tensor) -> Tensor:
        return l2_normalise(self.split_heads(self.key(x_BTD)))

    def log_kernel(self, query_BHTN: Tensor, key_BHTN: Tensor) -> Tensor:
        return self.temperature[:, None, None] * (query_BHTN @ key_BHTN.mT)

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2 + 8 * tokens * self.width
        return projections + 4 * tokens**2 * self.width + 6 * self.heads * tokens**2


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: the weighted mean , one query at a time."""
    q, k = mechanism.queries(x_BTD), mechanism.keys(x_BTD)
    rows = []
    for t in range(x_BTD.shape[-2]):
        near = k[..., : t + 1, :]
        agreement = (near * q[..., t, None, :]).sum(-1)
        weight = torch.softmax(mechanism.temperature[:, None] * agreement, -1)
        rows.append((weight.unsqueeze(-1) * v_BHTP[..., : t + 1, :]).sum(-2))
    return torch.stack(rows, -2)
