"""DeltaNet: online gradient descent on the recall error, one step per token.

    S_t = S_{t−1} − β_t ∇_S ½‖v_t − S_{t−1}ᵀ k_t‖² = (I − β_t k_t k_tᵀ) S_{t−1} + β_t k_t v_tᵀ,   y_t = S_tᵀ q_t

Source: Schlag et al. 2021 (arXiv 2102.11174), parallel form Yang et al. 2024 (arXiv 2406.06484). Keys and queries pass
SiLU and have unit length, so that a step with β ≤ 1 never overshoots.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evomix.mechanisms.operators import l2_normalise
from evomix.mechanisms.test_time_regression.contract import Declaration, TestTimeRegression


# EVOLVE-BLOCK-START
class Mechanism(TestTimeRegression):
    """One explicit gradient step per token; a linear map of x sets its size."""

    declaration = Declaration(estimator="online_gradient", steps=1)

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.rate = nn.Linear(width, heads)

    def queries(self, x_BTD: Tensor) -> Tensor:
        return l2_normalise(F.silu(self.split_heads(self.query(x_BTD))))

    def keys(self, x_BTD: Tensor) -> Tensor:
        return l2_normalise(F.silu(self.split_heads(self.key(x_BTD))))

    def importance(self, x_BTD: Tensor) -> Tensor:
        return torch.sigmoid(self.rate(x_BTD)).transpose(-2, -1)

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2 + 2 * tokens * self.width * self.heads
        products_and_solve = 7 * tokens**2 * self.width
        return projections + products_and_solve + 4 * self.heads * tokens**2 + 16 * tokens * self.width


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: the recurrence S ← S + β k (v − Sᵀk)ᵀ."""
    q, k, rate = mechanism.queries(x_BTD), mechanism.keys(x_BTD), mechanism.importance(x_BTD)
    state = torch.zeros_like(k[..., :1, :].mT @ v_BHTP[..., :1, :])
    rows = []
    for t in range(x_BTD.shape[-2]):
        error = v_BHTP[..., t, :] - (k[..., t, None, :] @ state).squeeze(-2)
        state = state + rate[..., t, None, None] * k[..., t, :, None] * error.unsqueeze(-2)
        rows.append((q[..., t, None, :] @ state).squeeze(-2))
    return torch.stack(rows, -2)
