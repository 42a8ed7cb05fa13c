"""Log-linear attention: a hierarchical matrix whose blocks, of sizes 1, 1, 2, 4, …, have weights of their own.

    M[t, i] = λ_t^{(level(t, i))} Γ_{t,i} C_tᵀ B_i Δ_i,   level(t, i) = number of bits of (t xor i)

Source: Guo et al. 2025 (arXiv 2506.04761), Fenwick levels over Mamba-2 factors: level 0 is the token itself, level l
the sibling block of 2^{l−1} tokens. The last level also serves all larger distances.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evomix.mechanisms.matrix_mixer.contract import Declaration, MatrixMixer
from evomix.mechanisms.operators import segment_sums, softplus_inverse


# EVOLVE-BLOCK-START
class Mechanism(MatrixMixer):
    """Ten levels (512 tokens) over a semiseparable matrix; λ is a positive function of the query's token."""

    LEVELS = 10
    declaration = Declaration(structure="hierarchical")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.step = nn.Linear(width, heads)
        self.level = nn.Linear(width, heads * self.LEVELS, bias=False)
        self.log_rate = nn.Parameter(torch.zeros(heads))

    def initialise(self) -> None:
        step = torch.exp(torch.empty(self.heads).uniform_(math.log(1e-3), math.log(0.1)))
        self.step.bias.copy_(softplus_inverse(step))
        self.log_rate.copy_(torch.empty(self.heads).uniform_(0.5, 4.0).log())

    def generators(self, x_BTD: Tensor) -> tuple[Tensor, ...]:
        step = F.softplus(self.step(x_BTD)).transpose(-2, -1)
        log_decay = -torch.exp(self.log_rate).unsqueeze(-1) * step
        right = step.unsqueeze(-1) * self.split_heads(self.key(x_BTD))
        return self.split_heads(self.query(x_BTD)), right, log_decay, F.softplus(self.split_heads(self.level(x_BTD)))

    def matrix(self, left_BHTN: Tensor, right_BHTN: Tensor, log_decay_BHT: Tensor, weight_BHTL: Tensor) -> Tensor:
        position = torch.arange(left_BHTN.shape[-2], device=left_BHTN.device)
        differing = position[:, None] ^ position[None, :]
        level = torch.stack([(differing >> bit) > 0 for bit in range(self.LEVELS - 1)]).sum(0)
        lower = (left_BHTN @ right_BHTN.mT) * torch.exp(segment_sums(log_decay_BHT))
        return lower * torch.gather(weight_BHTL, -1, level.expand(lower.shape))

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2 + 2 * tokens * self.width * self.heads * (1 + self.LEVELS)
        return projections + 4 * tokens**2 * self.width + 6 * self.heads * tokens**2 + 4 * tokens * self.width


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: walk the Fenwick blocks of every token, decaying keys one step at a time."""
    left, right, log_decay, weight = mechanism.generators(x_BTD)
    rows = []
    decayed: list[Tensor] = []
    for t in range(x_BTD.shape[-2]):
        decayed = [torch.exp(log_decay[..., t, None]) * key for key in decayed] + [right[..., t, :]]
        y = weight[..., t, 0, None] * (left[..., t, :] * decayed[t]).sum(-1, keepdim=True) * v_BHTP[..., t, :]
        end = t
        while end:
            size = end & -end  # the block just before `end` has the size of its lowest bit
            level = min(size.bit_length(), mechanism.LEVELS - 1)
            for i in range(end - size, end):
                score = (left[..., t, :] * decayed[i]).sum(-1, keepdim=True)
                y = y + weight[..., t, level, None] * score * v_BHTP[..., i, :]
            end -= size
        rows.append(y)
    return torch.stack(rows, -2)
