"""Linear attention with positive features, normalised: no evolution, linear readout, row-sum normaliser.

    α_{i,j} = φ(q_i)ᵀ φ(k_j) / Σ_{l≤i} φ(q_i)ᵀ φ(k_l),   φ(z) = elu(z) + 1

Source: Katharopoulos et al. 2020 (arXiv 2006.16236). A floor of 1e-6 in φ keeps the row sum positive at any scale.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evomix.mechanisms.coefficient_dynamics.contract import CoefficientDynamics, Declaration


# EVOLVE-BLOCK-START
class Mechanism(CoefficientDynamics):
    """Constant states of positive features, linear readout."""

    declaration = Declaration(readout="linear", evolution="identity", normaliser="row_sum")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)

    def queries(self, x_BTD: Tensor) -> Tensor:
        return F.elu(self.split_heads(self.query(x_BTD))) + (1 + 1e-6)

    def keys(self, x_BTD: Tensor) -> Tensor:
        return F.elu(self.split_heads(self.key(x_BTD))) + (1 + 1e-6)

    def normaliser(self, weight_BHTT: Tensor) -> Tensor:
        return weight_BHTT.sum(-1, keepdim=True)

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2 + 4 * tokens * self.width
        return projections + 4 * tokens**2 * self.width + 3 * self.heads * tokens**2


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: the recurrence S ← S + φ(k) vᵀ, z ← z + φ(k), y = Sᵀφ(q) / zᵀφ(q)."""
    q, k = mechanism.queries(x_BTD), mechanism.keys(x_BTD)
    state = torch.zeros_like(k[..., :1, :].mT @ v_BHTP[..., :1, :])
    total = torch.zeros_like(k[..., 0, :])
    rows = []
    for t in range(x_BTD.shape[-2]):
        state = state + k[..., t, :, None] * v_BHTP[..., t, None, :]
        total = total + k[..., t, :]
        rows.append((q[..., t, None, :] @ state).squeeze(-2) / (q[..., t, :] * total).sum(-1, keepdim=True))
    return torch.stack(rows, -2)
