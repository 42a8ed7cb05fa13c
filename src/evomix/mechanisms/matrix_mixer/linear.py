"""Linear attention with positive features as a matrix mixer: causal low rank, row-normalised.

    L = tril(φ(Q) φ(K)ᵀ),   M = diag(L 1)⁻¹ L,   φ(z) = elu(z) + 1

Source: Katharopoulos et al. 2020 (arXiv 2006.16236); as a low-rank mixer, Hwang et al. 2024 (arXiv 2407.09941).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evomix.mechanisms.matrix_mixer.contract import Declaration, MatrixMixer
from evomix.mechanisms.operators import keep_past


# EVOLVE-BLOCK-START
class Mechanism(MatrixMixer):
    """Rank-N factors with positive entries; the product is row-stochastic."""

    declaration = Declaration(structure="low_rank", row_stochastic=True)

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)

    def generators(self, x_BTD: Tensor) -> tuple[Tensor, ...]:
        left = F.elu(self.split_heads(self.query(x_BTD))) + (1 + 1e-6)
        right = F.elu(self.split_heads(self.key(x_BTD))) + (1 + 1e-6)
        return left, right

    def matrix(self, left_BHTN: Tensor, right_BHTN: Tensor) -> Tensor:
        product = keep_past(left_BHTN @ right_BHTN.mT)
        return product / product.sum(-1, keepdim=True)

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2 + 4 * tokens * self.width
        return projections + 4 * tokens**2 * self.width + 2 * self.heads * tokens**2


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: the recurrence of running sums of φ(k) vᵀ and φ(k)."""
    q, k = mechanism.generators(x_BTD)
    state = torch.zeros_like(k[..., :1, :].mT @ v_BHTP[..., :1, :])
    total = torch.zeros_like(k[..., 0, :])
    rows = []
    for t in range(x_BTD.shape[-2]):
        state = state + k[..., t, :, None] * v_BHTP[..., t, None, :]
        total = total + k[..., t, :]
        rows.append((q[..., t, None, :] @ state).squeeze(-2) / (q[..., t, :] * total).sum(-1, keepdim=True))
    return torch.stack(rows, -2)
