"""RetNet's retention: every state shrinks by a fixed factor of its head, linear readout.

    h_{i,j} = g^{i−j} k_j,   α_{i,j} = g^{i−j} q_iᵀ k_j,   g_h = 1 − 2^{−5−h}

Source: Sun et al. 2023 (arXiv 2307.08621), without rotation, output gate and group norm, which are not mixing.
"""

import math

import torch
from torch import Tensor, nn

from evomix.mechanisms.coefficient_dynamics.contract import CoefficientDynamics, Declaration
from evomix.mechanisms.coefficient_dynamics.responses import Evolution


# EVOLVE-BLOCK-START
class Mechanism(CoefficientDynamics):
    """Scalar decay fixed per head, linear readout."""

    declaration = Declaration(readout="linear", evolution="scalar", normaliser="none")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)

    def queries(self, x_BTD: Tensor) -> Tensor:
        return self.split_heads(self.query(x_BTD))

    def keys(self, x_BTD: Tensor) -> Tensor:
        return self.split_heads(self.key(x_BTD)) / math.sqrt(self.head_width)

    def evolution(self, x_BTD: Tensor, key_BHTN: Tensor) -> Evolution:
        head = torch.arange(self.heads, device=x_BTD.device, dtype=x_BTD.dtype)
        log_decay = torch.log1p(-torch.exp2(-5.0 - head))
        shape = (*x_BTD.shape[:-2], self.heads, x_BTD.shape[-2])
        return Evolution(log_scalar_BHT=log_decay.unsqueeze(-1).expand(shape))

    def flops(self, tokens: int) -> int:
        projections = 4 * tokens * self.width**2
        return projections + 4 * tokens**2 * self.width + 4 * self.heads * tokens**2


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: the recurrence S ← g S + k vᵀ, y = Sᵀ q."""
    q, k = mechanism.queries(x_BTD), mechanism.keys(x_BTD)
    decay = (1 - 2.0 ** (-5 - torch.arange(mechanism.heads, dtype=x_BTD.dtype)))[:, None, None]
    state = torch.zeros_like(k[..., :1, :].mT @ v_BHTP[..., :1, :])
    rows = []
    for t in range(x_BTD.shape[-2]):
        state = decay * state + k[..., t, :, None] * v_BHTP[..., t, None, :]
        rows.append((q[..., t, None, :] @ state).squeeze(-2))
    return torch.stack(rows, -2)
