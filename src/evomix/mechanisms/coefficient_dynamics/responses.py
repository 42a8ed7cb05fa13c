"""Impulse responses of the coefficient dynamics: scores s_{i,j} = q_iᵀ A_i ⋯ A_{j+1} (b_j k_j), fast and step by step.

Shapes: B batch, T tokens, H heads, N state size; the batch dimension may be absent.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from evomix.mechanisms.operators import at_least_float32, keep_past, segment_sums, solve_unit_lower

CHUNK = 16
"""Tokens per chunk of the diagonal evolution: its inner tensor is (T / CHUNK) · CHUNK² · N, not T² · N."""


class Evolution(NamedTuple):
    """The evolution matrices A_t as a product of optional parts; none of them is the identity.

    A_t = γ_t · diag(γ'_t) · (I − β_t u_t u_tᵀ), plus an optional shear that adds `drift` to the score at every step:
    the linear system on the state extended by (c, 1) with c ← c + drift_t, read by a query extended by (1, 0).
    """

    log_scalar_BHT: Tensor | None = None
    log_diagonal_BHTN: Tensor | None = None
    direction_BHTN: Tensor | None = None
    strength_BHT: Tensor | None = None
    drift_BHT: Tensor | None = None


def responses(query_BHTN: Tensor, impulse_BHTN: Tensor, evolution: Evolution) -> Tensor:
    """Return s_BHTT for all i ≥ j at once; entries with j > i are finite and without meaning.

    Householder products use the compact form: with R = (I + diag(β) stril(UUᵀ))⁻¹ diag(β) stril(UKᵀ), the state is
    h_{i,j} = k_j − Σ_{j<l≤i} u_l R_{l,j}.
    """
    e = evolution
    if e.log_diagonal_BHTN is not None and e.direction_BHTN is not None:
        return step_by_step(query_BHTN, impulse_BHTN, evolution)
    if e.log_diagonal_BHTN is not None:
        score = diagonal_responses(query_BHTN, impulse_BHTN, e.log_diagonal_BHTN)
    else:
        score = query_BHTN @ impulse_BHTN.mT
    if e.direction_BHTN is not None and e.strength_BHT is not None:
        direction, scaled = e.direction_BHTN, e.strength_BHT.unsqueeze(-1) * e.direction_BHTN
        removed = solve_unit_lower(
            keep_past(scaled @ direction.mT, strict=True), keep_past(scaled @ impulse_BHTN.mT, strict=True)
        )
        score = score - keep_past(query_BHTN @ direction.mT) @ removed.to(score.dtype)
    if e.log_scalar_BHT is not None:
        score = score * torch.exp(segment_sums(at_least_float32(e.log_scalar_BHT)))
    if e.drift_BHT is not None:
        score = score + segment_sums(at_least_float32(e.drift_BHT), future=0.0)
    return score


def diagonal_responses(query_BHTN: Tensor, impulse_BHTN: Tensor, log_diagonal_BHTN: Tensor) -> Tensor:
    """Return s[i, j] = Σ_n q_in k_jn exp(Σ_{j<l≤i} log γ_ln), chunk by chunk; exponents are never positive sums."""
    tokens = query_BHTN.shape[-2]
    return chunked_diagonal(query_BHTN, impulse_BHTN, log_diagonal_BHTN, identity_values(query_BHTN, tokens))


def identity_values(like_BHTN: Tensor, tokens: int) -> Tensor:
    """Return the identity as values, v_BHTT: mixing it materialises the mixing matrix."""
    eye = torch.eye(tokens, device=like_BHTN.device, dtype=like_BHTN.dtype)
    return eye.expand(*like_BHTN.shape[:-2], tokens, tokens)


def chunked_diagonal(query_BHTN: Tensor, impulse_BHTN: Tensor, log_diagonal_BHTN: Tensor, v_BHTP: Tensor) -> Tensor:
    """Return y_i = Σ_{j≤i} (Σ_n q_in k_jn ∏_{j<l≤i} γ_ln) v_j by carrying the state S_NP from chunk to chunk.

    Inside a chunk the decay between two positions is a segment sum; to the chunk's ends it is a running sum. No two
    large sums are subtracted, so gates near zero lose no precision.
    """
    tokens = query_BHTN.shape[-2]
    log_gate = at_least_float32(log_diagonal_BHTN)
    state = torch.zeros_like(impulse_BHTN[..., :1, :].mT @ v_BHTP[..., :1, :])
    chunks = []
    for start in range(0, tokens, CHUNK):
        part = slice(start, start + CHUNK)
        q, k, v, g = query_BHTN[..., part, :], impulse_BHTN[..., part, :], v_BHTP[..., part, :], log_gate[..., part, :]
        decay = torch.exp(segment_sums(g.mT))  # (B, H, N, C, C)
        inner = torch.einsum("...in,...jn,...nij->...ij", q, k, decay.to(q.dtype))
        from_start = torch.exp(g.cumsum(-2)).to(q.dtype)
        chunks.append(inner @ v + (q * from_start) @ state)
        later = torch.cat([g[..., 1:, :], torch.zeros_like(g[..., :1, :])], -2)
        after = torch.exp(later.flip(-2).cumsum(-2).flip(-2)).to(k.dtype)
        state = from_start[..., -1, :].unsqueeze(-1) * state + (k * after).mT @ v
    return torch.cat(chunks, -2)


def chunked_diagonal_flops(tokens: int, width: int, head_width: int) -> int:
    """Return the operations of `chunked_diagonal` for one sequence with P = N = head width."""
    return tokens * (7 * min(CHUNK, tokens) * width + 4 * width * head_width + 8 * width)


def step_by_step(query_BHTN: Tensor, impulse_BHTN: Tensor, evolution: Evolution) -> Tensor:
    """Return s_BHTT by running the linear systems one step at a time: the definition, and the ground truth.

    Entry (i, j) for j > i is 0. States of all source tokens are kept, T · N numbers.
    """
    e = evolution
    tokens = query_BHTN.shape[-2]
    h = impulse_BHTN[..., :0, :]  # (B, H, i, N): one state per source token so far
    drifted = impulse_BHTN[..., :0, 0]
    rows = []
    for i in range(tokens):
        if e.direction_BHTN is not None and e.strength_BHT is not None:
            u = e.direction_BHTN[..., i, None, :]
            h = h - e.strength_BHT[..., i, None, None] * (h @ u.mT) * u
        if e.log_diagonal_BHTN is not None:
            h = h * torch.exp(e.log_diagonal_BHTN[..., i, None, :])
        if e.log_scalar_BHT is not None:
            h = h * torch.exp(e.log_scalar_BHT[..., i, None, None])
        h = torch.cat([h, impulse_BHTN[..., i, None, :]], -2)
        score = (h @ query_BHTN[..., i, :, None]).squeeze(-1)
        if e.drift_BHT is not None:
            step = e.drift_BHT[..., i, None]
            drifted = torch.cat([drifted + step, torch.zeros_like(step)], -1)
            score = score + drifted
        rows.append(torch.nn.functional.pad(score, (0, tokens - 1 - i)))
    return torch.stack(rows, -2)
