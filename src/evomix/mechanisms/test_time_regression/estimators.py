"""Fast causal solvers of the regressions that a mechanism can declare, all tokens at once.

Shapes: B batch, T tokens, H heads, N key width, P value width; the batch dimension may be absent. The certificate holds
independent solvers of the same regressions, one token at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from evomix.mechanisms.operators import (
    at_least_float32,
    causal_mask,
    forbid_future,
    keep_past,
    segment_sums,
    solve_unit_lower,
)

Estimator = Literal[
    "local_constant", "local_linear", "local_linear_step", "ridge", "residual", "online_gradient", "proximal"
]
LOCAL = ("local_constant", "local_linear", "local_linear_step", "residual")
"""Estimators that weigh points by a kernel of query and key."""


class Points(NamedTuple):
    """One sequence's regression: points, weights, penalty."""

    query_BHTN: Tensor
    key_BHTN: Tensor
    log_kernel_BHTT: Tensor | None = None
    log_decay_BHT: Tensor | None = None
    importance_BHT: Tensor | None = None
    penalty: Tensor | None = None
    displacement_BHTN: Tensor | None = None
    steps: int = 1


def decay_matrix(points: Points) -> Tensor:
    """Return Γ_BHTT, the product of the decays since point i, 0 in the future; lower-triangular ones without decay."""
    if points.log_decay_BHT is None:
        tokens = points.key_BHTN.shape[-2]
        shape = (*points.key_BHTN.shape[:-2], tokens, tokens)
        return causal_mask(tokens, points.key_BHTN).to(at_least_float32(points.key_BHTN).dtype).expand(shape)
    return torch.exp(segment_sums(at_least_float32(points.log_decay_BHT)))


def local_weights(points: Points) -> Tensor:
    """Return w_BHTT, rows summing to one: w_{t,i} ∝ Γ_{t,i} β_i K(q_t, k_i) for i ≤ t."""
    if points.log_kernel_BHTT is None:
        raise ValueError("a local estimator needs log_kernel")
    score = forbid_future(at_least_float32(points.log_kernel_BHTT))
    if points.log_decay_BHT is not None:
        score = score + segment_sums(at_least_float32(points.log_decay_BHT), future=0.0)
    if points.importance_BHT is not None:
        score = score + torch.log(at_least_float32(points.importance_BHT)).unsqueeze(-2)
    kernel = torch.exp(score - score.amax(-1, keepdim=True).detach())
    return kernel / kernel.sum(-1, keepdim=True)


def weighted_sums(weight_BHTT: Tensor, terms_BHTK: Tensor) -> Tensor:
    """Return Σ_i w_{t,i} terms_i for every t, in float32 or better also under autocast: a solve follows."""
    with torch.autocast(weight_BHTT.device.type, enabled=False):
        return weight_BHTT @ terms_BHTK.to(weight_BHTT.dtype)


def second_moments(weight_BHTT: Tensor, key_BHTN: Tensor) -> Tensor:
    """Return Σ_i w_{t,i} k_i k_iᵀ for every t, as BHTNN."""
    outer = (key_BHTN.unsqueeze(-1) * key_BHTN.unsqueeze(-2)).flatten(-2)
    moments = weighted_sums(weight_BHTT, outer)
    return moments.reshape(*moments.shape[:-1], key_BHTN.shape[-1], -1)


def solve_penalised(moment_BHTNN: Tensor, penalty: Tensor | None, right_BHTN: Tensor) -> Tensor:
    """Return (moment + diag Λ)⁻¹ right for every token; not finite where a system is singular.

    A solver that checks for singularity would stop the training and, on a GPU, wait for the device at every call.
    """
    if penalty is None:
        raise ValueError("this estimator needs a penalty")
    diagonal = at_least_float32(penalty).to(moment_BHTNN.dtype).expand(right_BHTN.shape)
    system = moment_BHTNN + torch.diag_embed(diagonal)
    solved: Tensor = torch.linalg.solve_ex(system, right_BHTN.to(system.dtype).unsqueeze(-1)).result
    return solved.squeeze(-1)


def local_constant(points: Points, v_BHTP: Tensor) -> Tensor:
    """Return the Nadaraya–Watson estimate Σ_i w_{t,i} v_i."""
    return local_weights(points).to(v_BHTP.dtype) @ v_BHTP


def local_linear(points: Points, v_BHTP: Tensor) -> Tensor:
    """Return Σ_i w_ti [1 + (k_i − k̄_t)ᵀ (Σ_t + Λ)⁻¹ (q_t − k̄_t)] v_i: the weighted affine fit evaluated at q_t."""
    weight, key = local_weights(points), at_least_float32(points.key_BHTN)
    mean = weighted_sums(weight, key)
    covariance = second_moments(weight, key) - mean.unsqueeze(-1) * mean.unsqueeze(-2)
    slope = solve_penalised(covariance, points.penalty, points.query_BHTN.to(mean.dtype) - mean)
    return _affine(weight, key, mean, slope, v_BHTP)


def local_linear_step(points: Points, v_BHTP: Tensor) -> Tensor:
    """Return Σ_i w_ti [1 + (k_i − k̄_t)ᵀ δ_t] v_i: one unit gradient step for the slope, evaluated at k̄_t + δ_t."""
    if points.displacement_BHTN is None:
        raise ValueError("local_linear_step needs a displacement")
    weight, key = local_weights(points), at_least_float32(points.key_BHTN)
    mean = weighted_sums(weight, key)
    return _affine(weight, key, mean, points.displacement_BHTN.to(mean.dtype), v_BHTP)


def _affine(weight_BHTT: Tensor, key_BHTN: Tensor, mean_BHTN: Tensor, slope_BHTN: Tensor, v_BHTP: Tensor) -> Tensor:
    tilt = slope_BHTN @ key_BHTN.to(slope_BHTN.dtype).mT - (slope_BHTN * mean_BHTN).sum(-1, keepdim=True)
    return (weight_BHTT * (1 + tilt)).to(v_BHTP.dtype) @ v_BHTP


def ridge(points: Points, v_BHTP: Tensor) -> Tensor:
    """Return Σ_i Γ_ti β_i v_i k_iᵀ (H_t + Λ)⁻¹ q_t with H_t = Σ_i Γ_ti β_i k_i k_iᵀ: recursive least squares."""
    weight, key = decay_matrix(points), at_least_float32(points.key_BHTN)
    if points.importance_BHT is not None:
        weight = weight * points.importance_BHT.to(weight.dtype).unsqueeze(-2)
    solved = solve_penalised(second_moments(weight, key), points.penalty, points.query_BHTN)
    return (weight * (solved @ key.to(solved.dtype).mT)).to(v_BHTP.dtype) @ v_BHTP


def residual(points: Points, v_BHTP: Tensor) -> Tensor:
    """Return W_t q_t + Σ_i w_ti (v_i − W_t k_i), W_t the ridge fit: kernel smoothing corrects a global linear fit.

    Since the w sum to one this is Σ_i w_ti v_i + W_t (q_t − k̄_t): a local linear fit with a slope shared by all places.
    """
    weight, key = local_weights(points), at_least_float32(points.key_BHTN)
    beyond = at_least_float32(points.query_BHTN) - weighted_sums(weight, key)
    return weight.to(v_BHTP.dtype) @ v_BHTP + ridge(points._replace(query_BHTN=beyond), v_BHTP)


def _delta(points: Points, rate_BHT: Tensor, v_BHTP: Tensor) -> Tensor:
    """Return the output of S_t = γ_t S_{t−1} + k_t u_tᵀ, u_t = rate_t (v_t − γ_t S_{t−1}ᵀ k_t), y_t = S_tᵀ q_t.

    All u at once by one forward substitution: (I + stril(rate · KKᵀ ∘ Γ)) U = rate · V (Yang et al. 2024).
    """
    key, decay = at_least_float32(points.key_BHTN), decay_matrix(points)
    scaled = rate_BHT.unsqueeze(-1) * key
    update = solve_unit_lower(
        keep_past((scaled @ key.mT).to(decay.dtype) * decay, strict=True), rate_BHT.unsqueeze(-1) * v_BHTP
    )
    return ((points.query_BHTN.to(key.dtype) @ key.mT).to(decay.dtype) * decay) @ update


def _rate_and_energy(points: Points) -> tuple[Tensor, Tensor]:
    energy = at_least_float32(points.key_BHTN).square().sum(-1)
    rate = torch.ones_like(energy) if points.importance_BHT is None else points.importance_BHT.to(energy.dtype)
    return rate, energy


def online_gradient(points: Points, v_BHTP: Tensor) -> Tensor:
    """Return the delta rule with `steps` gradient steps per token.

    n steps of size β on one point move the prediction by the factor 1 − (1 − β‖k‖²)ⁿ, so they are one step of size
    β Σ_{s<n} (1 − β‖k‖²)ˢ.
    """
    rate, energy = _rate_and_energy(points)
    total = rate
    for _ in range(points.steps - 1):
        total = rate + (1 - rate * energy) * total
    return _delta(points, total, v_BHTP)


def proximal(points: Points, v_BHTP: Tensor) -> Tensor:
    """Return the implicit delta rule: a step of size β / (1 + β‖k‖²), never unstable."""
    rate, energy = _rate_and_energy(points)
    return _delta(points, rate / (1 + rate * energy), v_BHTP)


SOLVERS: dict[Estimator, Callable[[Points, Tensor], Tensor]] = {
    "local_constant": local_constant,
    "local_linear": local_linear,
    "local_linear_step": local_linear_step,
    "ridge": ridge,
    "residual": residual,
    "online_gradient": online_gradient,
    "proximal": proximal,
}
