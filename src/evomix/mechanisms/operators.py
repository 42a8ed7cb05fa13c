"""Small causal building blocks that mechanisms of every framework may use. All are safe under torch.func.vmap.

Masks are exact: a future entry is −inf before an exponential or 0 after it, never a large finite number, which would
leak once logits grow. Decays are kept as logarithms and summed segment by segment, so no difference of two large
cumulative sums is ever taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCAN_CHUNK = 64
"""Tokens per chunk of `semiseparable_product`; costs T · (4 · SCAN_CHUNK + 4 N) per channel instead of 4 · T²."""


def causal_mask(tokens: int, like: Tensor, strict: bool = False) -> Tensor:
    """Return the boolean (T, T) mask that is true where column i ≤ row t (i < t when `strict`), on `like`'s device."""
    position = torch.arange(tokens, device=like.device)
    rows, columns = position[:, None], position[None, :]
    return columns < rows if strict else columns <= rows


def keep_past(matrix_BHTT: Tensor, strict: bool = False) -> Tensor:
    """Return the matrix with every future entry exactly 0 (also the diagonal when `strict`), whatever stood there."""
    past = causal_mask(matrix_BHTT.shape[-1], matrix_BHTT, strict)
    return torch.where(past, matrix_BHTT, torch.zeros_like(matrix_BHTT))


def forbid_future(score_BHTT: Tensor) -> Tensor:
    """Return the scores with −inf in every future entry: the mask to use before an exponential or a softmax."""
    past = causal_mask(score_BHTT.shape[-1], score_BHTT)
    return torch.where(past, score_BHTT, torch.full_like(score_BHTT, -torch.inf))


def segment_sums(step_BHT: Tensor, future: float = -torch.inf) -> Tensor:
    """Return G_BHTT with G[t, i] = Σ_{j=i+1..t} step[j] for i ≤ t, and `future` elsewhere.

    With step = log γ, exp(G) is the decay Γ_{t,i} = ∏_{j=i+1..t} γ_j (and 0 in the future).
    """
    tokens = step_BHT.shape[-1]
    strict = causal_mask(tokens, step_BHT, strict=True)
    spread = step_BHT.unsqueeze(-1).expand(*step_BHT.shape, tokens)
    sums = torch.where(strict, spread, torch.zeros_like(spread)).cumsum(-2)
    return torch.where(causal_mask(tokens, step_BHT), sums, torch.full_like(sums, future))


def at_least_float32(z: Tensor) -> Tensor:
    """Return `z` in float32 when it is of lower precision (linear solves and long sums need it), else unchanged."""
    return z.float() if z.dtype in (torch.bfloat16, torch.float16) else z


def l2_normalise(z_BHTN: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Return z / √(‖z‖² + ε²): unit length, smooth at zero."""
    return z_BHTN * torch.rsqrt(z_BHTN.square().sum(-1, keepdim=True) + epsilon**2)


def solve_unit_lower(strict_lower_BHTT: Tensor, right_BHTP: Tensor) -> Tensor:
    """Return X with (I + L) X = right for a strictly lower triangular L: one forward substitution."""
    lower, right = at_least_float32(strict_lower_BHTT), at_least_float32(right_BHTP)
    solved: Tensor = torch.linalg.solve_triangular(lower, right.to(lower.dtype), upper=False, unitriangular=True)
    return solved


def softplus_inverse(z: Tensor) -> Tensor:
    """Return s with softplus(s) = z, for z > 0."""
    return z + torch.log(-torch.expm1(-z))


def semiseparable_product(query_BHTN: Tensor, key_BHTN: Tensor, log_decay_BHT: Tensor, v_BHTP: Tensor) -> Tensor:
    """Return y_t = Σ_{i≤t} q_tᵀ k_i exp(Σ_{i<l≤t} log γ_l) v_i (Dao & Gu 2024, the block decomposition)."""
    tokens = query_BHTN.shape[-2]
    state = torch.zeros_like(key_BHTN[..., :1, :].mT @ v_BHTP[..., :1, :])
    chunks = []
    for start in range(0, tokens, SCAN_CHUNK):
        part = slice(start, start + SCAN_CHUNK)
        q, k, v = query_BHTN[..., part, :], key_BHTN[..., part, :], v_BHTP[..., part, :]
        sums = segment_sums(log_decay_BHT[..., part])
        inside = torch.exp(sums)
        from_start = torch.exp(log_decay_BHT[..., part].cumsum(-1)).unsqueeze(-1)
        chunks.append(((q @ k.mT) * inside) @ v + from_start * (q @ state))
        to_end = inside[..., -1, :].unsqueeze(-1)
        state = from_start[..., -1:, :] * state + (to_end * k).mT @ v
    return torch.cat(chunks, -2)


def semiseparable_flops(tokens: int, width: int, head_width: int, heads: int) -> int:
    """Return the operations of `semiseparable_product` for one sequence with P = N = head width."""
    chunk = min(SCAN_CHUNK, tokens)
    return 4 * tokens * chunk * width + 4 * tokens * width * head_width + 4 * heads * tokens * chunk
