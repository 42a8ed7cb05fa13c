"""Causal Cauchy mixer, row-normalised: weights are inverses of a sum of a row's and a column's number.

    L[t, i] = 1 / (e^{q_t} + e^{k_i} + 2c),   M = diag(L 1)⁻¹ L,   q, k one number per head and token

Source: Hwang et al. 2024 (arXiv 2407.09941). A token with a small k weighs more in every row; q sets how
much k matters.
"""

import torch
from torch import Tensor, nn

from evomix.mechanisms.matrix_mixer.contract import Declaration, MatrixMixer
from evomix.mechanisms.operators import keep_past


# EVOLVE-BLOCK-START
class Mechanism(MatrixMixer):
    """Cauchy matrix of two numbers per token and head."""

    OFFSET = 0.05
    declaration = Declaration(structure="cauchy", row_stochastic=True)

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.row = nn.Linear(width, heads)
        self.column = nn.Linear(width, heads)

    def generators(self, x_BTD: Tensor) -> tuple[Tensor, ...]:
        return self.row(x_BTD).transpose(-2, -1), self.column(x_BTD).transpose(-2, -1)

    def matrix(self, row_BHT: Tensor, column_BHT: Tensor) -> Tensor:
        sums = torch.exp(row_BHT).unsqueeze(-1) + torch.exp(column_BHT).unsqueeze(-2) + 2 * self.OFFSET
        inverse = keep_past(sums.reciprocal())
        return inverse / inverse.sum(-1, keepdim=True)

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width * self.heads
        return projections + 2 * tokens**2 * self.width + 5 * self.heads * tokens**2


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: the explicit weights of one row at a time."""
    row, column = mechanism.generators(x_BTD)
    rows = []
    for t in range(x_BTD.shape[-2]):
        sums = row[..., t, None].exp() + column[..., : t + 1].exp() + 2 * mechanism.OFFSET
        weight = (1 / sums) / (1 / sums).sum(-1, keepdim=True)
        rows.append((weight.unsqueeze(-1) * v_BHTP[..., : t + 1, :]).sum(-2))
    return torch.stack(rows, -2)
