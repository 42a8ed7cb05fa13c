"""Softmax attention as test-time regression: the local constant estimator with an exponential kernel.

    m_t = argmin_c Σ_{i≤t} exp(q_tᵀ k_i / √N) ‖v_i − c‖²,   y_t = m_t (Nadaraya–Watson)

Source: Vaswani et al. 2017; as a regression, Wang et al. 2025 (arXiv 2501.12352).
"""

import math

import torch
from torch import Tensor, nn

from evomix.mechanisms.test_time_regression.contract import Declaration, TestTimeRegression


# EVOLVE-BLOCK-START
class Mechanism(TestTimeRegression):
    """Local constant fit; the kernel's bandwidth is √N."""

    declaration = Declaration(estimator="local_constant")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)

    def queries(self, x_BTD: Tensor) -> Tensor:
        return self.split_heads(self.query(x_BTD))

    def keys(self, x_BTD: Tensor) -> Tensor:
        return self.split_heads(self.key(x_BTD))

    def log_kernel(self, query_BHTN: Tensor, key_BHTN: Tensor) -> Tensor:
        bandwidth = math.sqrt(self.head_width)
        return query_BHTN @ key_BHTN.mT / bandwidth

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2
        return projections + 4 * tokens**2 * self.width + 6 * self.heads * tokens**2


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: the weighted mean of the values, one query at a time."""
    q, k = mechanism.queries(x_BTD), mechanism.keys(x_BTD)
    rows = []
    for t in range(x_BTD.shape[-2]):
        score = torch.einsum("...n,...jn->...j", q[..., t, :], k[..., : t + 1, :]) / math.sqrt(mechanism.head_width)
        kernel = torch.exp(score - torch.logsumexp(score, -1, keepdim=True))
        rows.append(torch.einsum("...j,...jp->...p", kernel, v_BHTP[..., : t + 1, :]))
    return torch.stack(rows, -2)
