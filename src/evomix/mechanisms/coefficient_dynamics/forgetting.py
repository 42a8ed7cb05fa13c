"""Forgetting attention (FoX): softmax whose scores sink by a learned amount at every later token.

    α_{i,j} = exp(q_iᵀ k_j + G_i − G_j) / Σ_l …,   G_i − G_j = Σ_{j<l≤i} log σ(f_l),   f = W_f x + c

Source: Lin et al. 2025 (arXiv 2503.02130). The sum of log gates is a shear of the state extended by two numbers,
which is why the logarithm of the coefficients has rank N + 2 at a cut.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evomix.mechanisms.coefficient_dynamics.contract import CoefficientDynamics, Declaration
from evomix.mechanisms.coefficient_dynamics.responses import Evolution


# EVOLVE-BLOCK-START
class Mechanism(CoefficientDynamics):
    """Drifting scores, exponential readout; forget gates start open."""

    declaration = Declaration(readout="exp", evolution="drift", normaliser="row_sum")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.forget = nn.Linear(width, heads)

    def initialise(self) -> None:
        self.forget.bias.copy_(torch.linspace(2.0, 6.0, self.heads))

    def queries(self, x_BTD: Tensor) -> Tensor:
        return self.split_heads(self.query(x_BTD)) / math.sqrt(self.head_width)

    def keys(self, x_BTD: Tensor) -> Tensor:
        return self.split_heads(self.key(x_BTD))

    def evolution(self, x_BTD: Tensor, key_BHTN: Tensor) -> Evolution:
        return Evolution(drift_BHT=F.logsigmoid(self.forget(x_BTD)).transpose(-2, -1))

    def readout(self, score_BHTT: Tensor) -> Tensor:
        return torch.exp(score_BHTT - score_BHTT.amax(-1, keepdim=True).detach())

    def normaliser(self, weight_BHTT: Tensor) -> Tensor:
        return weight_BHTT.sum(-1, keepdim=True)

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2 + 2 * tokens * self.width * self.heads
        return projections + 4 * tokens**2 * self.width + 8 * self.heads * tokens**2


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: every earlier score sinks by log σ(f_t) when token t arrives."""
    q, k = mechanism.queries(x_BTD), mechanism.keys(x_BTD)
    gate = torch.sigmoid(mechanism.forget(x_BTD)).log().transpose(-2, -1)
    rows = []
    sunk = torch.zeros_like(gate[..., :0])
    for t in range(x_BTD.shape[-2]):
        sunk = torch.cat([sunk + gate[..., t, None], torch.zeros_like(gate[..., :1])], -1)
        score = (k[..., : t + 1, :] @ q[..., t, :, None]).squeeze(-1) + sunk
        rows.append((torch.softmax(score, -1).unsqueeze(-2) @ v_BHTP[..., : t + 1, :]).squeeze(-2))
    return torch.stack(rows, -2)
