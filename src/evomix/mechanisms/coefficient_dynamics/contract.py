"""Contract of the framework coefficient dynamics (Sieber et al. 2025, arXiv 2510.09389).

Shapes: B batch, T tokens, D width, H heads, N key width, P value width; the batch dimension may be absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from evomix.mechanisms import contract
from evomix.mechanisms.coefficient_dynamics.responses import Evolution, responses
from evomix.mechanisms.operators import causal_mask, keep_past


@dataclass(frozen=True)
class Declaration(contract.Declaration):
    """The choices of a coefficient dynamic; the certificate measures each on the materialised coefficients."""

    readout: Literal["linear", "exp", "other"]
    """φ. `linear`: the coefficients have rank ≤ state at every cut. `exp`: so have their logarithms, up to rank 2."""
    evolution: Literal["identity", "scalar", "diagonal", "householder", "drift"]
    """The A_t that `evolution` returns."""
    normaliser: Literal["none", "row_sum", "other"]
    """η. `row_sum`: every row of coefficients sums to one."""
    state: int | None = None
    """Size of one source token's state; None means the head width."""


class Dynamics(NamedTuple):
    """Everything the linear systems of one sequence need."""

    query_BHTN: Tensor
    impulse_BHTN: Tensor
    evolution: Evolution


class CoefficientDynamics(contract.Mechanism):
    """Every source token j starts its own linear system by an impulse; its output at time i is the weight of v_j.

        h_{j,j} = b_j k_j,   h_{i,j} = A_i h_{i-1,j},   α_{i,j} = φ(q_iᵀ h_{i,j}) / η_i,   y_i = Σ_{j≤i} α_{i,j} v_j

    Write these parts (x_BTD is the layer-normed input of the layer, values are never seen by them):

    - `queries(x_BTD) -> q_BHTN`: what reads the states. Carries the temperature.
    - `keys(x_BTD) -> k_BHTN` and `scaling(x_BTD) -> b_BHT or None`: the impulse b_j k_j; b is one unless given.
    - `evolution(x_BTD, key_BHTN) -> Evolution`: the A_t. `Evolution()` is the identity; its optional fields are
      `log_scalar_BHT` (A = γ_t I), `log_diagonal_BHTN` (A = diag γ_t), `direction_BHTN` with `strength_BHT`
      (A = I − β_t u_t u_tᵀ) and `drift_BHT` (a shear: adds Σ_{j<l≤i} drift_l to the score, used with φ = exp).
      Scalar and Householder, or diagonal and Householder, may be combined. Heads may differ: strong decay or drift
      makes some of them local while the others stay global.
    - `readout(score_BHTT) -> weight_BHTT`: φ, element by element; one common factor per row is allowed, as in
      exp(s − row maximum), since η removes it. Future entries hold the row's own (diagonal) score on entry and are
      set to zero afterwards, so they can neither leak nor overflow.
    - `normaliser(weight_BHTT) -> eta_BHT1`: η, default 1.
    - `declaration`: the choices above, which are measured, and `__init__`, `initialise` for parameters.

    Optional, for speed only: `mix(dynamics, v_BHTP) -> y_BHTP` may replace coefficients(dynamics) @ v by a chunked or
    recurrent form of the same function. It is compared with the definition above and must agree.
    """

    framework: ClassVar[str] = "coefficient_dynamics"
    fixed: ClassVar[tuple[str, ...]] = ("forward", "dynamics", "weigh", "coefficients", "split_heads")
    declaration: ClassVar[Declaration]

    def queries(self, x_BTD: Tensor) -> Tensor:
        """Return q_BHTN."""
        raise NotImplementedError

    def keys(self, x_BTD: Tensor) -> Tensor:
        """Return k_BHTN."""
        raise NotImplementedError

    def scaling(self, x_BTD: Tensor) -> Tensor | None:
        """Return b_BHT, or None for one."""
        return None

    def evolution(self, x_BTD: Tensor, key_BHTN: Tensor) -> Evolution:
        """Return the evolution matrices; the identity unless overridden."""
        return Evolution()

    def readout(self, score_BHTT: Tensor) -> Tensor:
        """Return φ(score), element by element; linear unless overridden."""
        return score_BHTT

    def normaliser(self, weight_BHTT: Tensor) -> Tensor:
        """Return η_BHT1; one unless overridden."""
        return torch.ones_like(weight_BHTT[..., :1])

    def mix(self, dynamics: Dynamics, v_BHTP: Tensor) -> Tensor:
        """Return y_BHTP = α v; override only with a faster form of the same function."""
        return self.coefficients(dynamics).to(v_BHTP.dtype) @ v_BHTP

    # Fixed below this line: the framework itself.

    def dynamics(self, x_BTD: Tensor) -> Dynamics:
        """Collect queries, impulses and evolution."""
        key, scaling = self.keys(x_BTD), self.scaling(x_BTD)
        impulse = key if scaling is None else scaling.unsqueeze(-1) * key
        return Dynamics(self.queries(x_BTD), impulse, self.evolution(x_BTD, key))

    def weigh(self, score_BHTT: Tensor) -> Tensor:
        """Return α_BHTT from the scores s_{i,j} = q_iᵀ h_{i,j}: readout, hard mask, normalisation."""
        own = score_BHTT.diagonal(dim1=-2, dim2=-1).unsqueeze(-1).expand_as(score_BHTT)
        past = causal_mask(score_BHTT.shape[-1], score_BHTT)
        weight = keep_past(self.readout(torch.where(past, score_BHTT, own)))
        return weight / self.normaliser(weight)

    def coefficients(self, dynamics: Dynamics) -> Tensor:
        """Return α_BHTT, zero in the future."""
        return self.weigh(responses(*dynamics))

    def forward(self, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
        """Return y_BHTP."""
        return self.mix(self.dynamics(x_BTD), v_BHTP)
