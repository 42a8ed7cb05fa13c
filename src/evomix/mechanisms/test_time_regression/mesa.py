"""Mesa layer: ridge regression of all values on all keys so far, solved exactly at every token.

    y_t = Σ_i Γ_{t,i} β_i v_i k_iᵀ (H_t + Λ)⁻¹ q_t,   H_t = Σ_i Γ_{t,i} β_i k_i k_iᵀ,   Λ = 0.25 + softplus(λ)

Source: von Oswald et al. 2023 and 2025 (arXiv 2309.05858, 2506.05233). Also known as recursive least squares.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evomix.mechanisms.operators import l2_normalise
from evomix.mechanisms.test_time_regression.contract import Declaration, TestTimeRegression


# EVOLVE-BLOCK-START
class Mechanism(TestTimeRegression):
    """Exact ridge with forgetting, a weight per point and a learned diagonal penalty."""

    declaration = Declaration(estimator="ridge")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.rate = nn.Linear(width, heads)
        self.forget = nn.Linear(width, heads)
        self.stiffness = nn.Parameter(torch.zeros(heads, width // heads))

    def initialise(self) -> None:
        self.forget.bias.copy_(torch.linspace(3.0, 6.0, self.heads))

    def queries(self, x_BTD: Tensor) -> Tensor:
        return l2_normalise(self.split_heads(self.query(x_BTD)))

    def keys(self, x_BTD: Tensor) -> Tensor:
        return l2_normalise(self.split_heads(self.key(x_BTD)))

    def log_decay(self, x_BTD: Tensor) -> Tensor:
        return F.logsigmoid(self.forget(x_BTD)).transpose(-2, -1)

    def importance(self, x_BTD: Tensor) -> Tensor:
        return torch.sigmoid(self.rate(x_BTD)).transpose(-2, -1)

    def penalty(self, x_BTD: Tensor) -> Tensor:
        return 0.25 + F.softplus(self.stiffness).unsqueeze(-2)

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2 + 4 * tokens * self.width * self.heads
        moments = 2 * tokens**2 * self.width * self.head_width
        solves = tokens * self.heads * (2 * self.head_width**3 // 3 + 2 * self.head_width**2)
        return projections + moments + solves + 4 * tokens**2 * self.width + 6 * self.heads * tokens**2


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: running sums H and B of the normal equations, one solve at every token."""
    q, k, rate = mechanism.queries(x_BTD), mechanism.keys(x_BTD), mechanism.importance(x_BTD)
    decay = torch.sigmoid(mechanism.forget(x_BTD)).transpose(-2, -1)
    penalty = torch.diag_embed(0.25 + F.softplus(mechanism.stiffness))
    moment = torch.zeros_like(k[..., :1, :].mT @ k[..., :1, :])
    cross = torch.zeros_like(k[..., :1, :].mT @ v_BHTP[..., :1, :])
    rows = []
    for t in range(x_BTD.shape[-2]):
        weighted = rate[..., t, None, None] * k[..., t, :, None]
        moment = decay[..., t, None, None] * moment + weighted * k[..., t, None, :]
        cross = decay[..., t, None, None] * cross + weighted * v_BHTP[..., t, None, :]
        slope = torch.linalg.solve(moment + penalty, cross)
        rows.append((q[..., t, None, :] @ slope).squeeze(-2))
    return torch.stack(rows, -2)
