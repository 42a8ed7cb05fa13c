"""Longhorn: online regression by an implicit (proximal) step, stable for any step size and any key length.

    S_t = argmin_S ½‖S − S_{t−1}‖² + ½ β_t ‖v_t − Sᵀ k_t‖²  =  delta rule with step β_t / (1 + β_t ‖k_t‖²)

Source: Liu et al. 2024 (arXiv 2407.14207), the mixing only.
"""

import math

import torch
from torch import Tensor, nn

from evomix.mechanisms.test_time_regression.contract import Declaration, TestTimeRegression


# EVOLVE-BLOCK-START
class Mechanism(TestTimeRegression):
    """One proximal step per token; a linear map of x sets the weight of the new point."""

    declaration = Declaration(estimator="proximal")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.rate = nn.Linear(width, heads)

    def queries(self, x_BTD: Tensor) -> Tensor:
        return self.split_heads(self.query(x_BTD)) / math.sqrt(self.head_width)

    def keys(self, x_BTD: Tensor) -> Tensor:
        return self.split_heads(self.key(x_BTD))

    def importance(self, x_BTD: Tensor) -> Tensor:
        return torch.sigmoid(self.rate(x_BTD)).transpose(-2, -1)

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2 + 2 * tokens * self.width * self.heads
        products_and_solve = 7 * tokens**2 * self.width
        return projections + products_and_solve + 4 * self.heads * tokens**2 + 6 * tokens * self.width


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: the proximal step's normal equations (I + β k kᵀ) S_t = S_{t−1} + β k vᵀ, solved at every token."""
    q, k, rate = mechanism.queries(x_BTD), mechanism.keys(x_BTD), mechanism.importance(x_BTD)
    state = torch.zeros_like(k[..., :1, :].mT @ v_BHTP[..., :1, :])
    identity = torch.eye(mechanism.head_width, dtype=x_BTD.dtype)
    rows = []
    for t in range(x_BTD.shape[-2]):
        weighted = rate[..., t, None, None] * k[..., t, :, None]
        system = identity + weighted * k[..., t, None, :]
        state = torch.linalg.solve(system, state + weighted * v_BHTP[..., t, None, :])
        rows.append((q[..., t, None, :] @ state).squeeze(-2))
    return torch.stack(rows, -2)
