"""Fast product of a semiseparable matrix: states carried from chunk to chunk, dense blocks inside.

Shapes: B batch, T tokens, H heads, N state size, P value width; the batch dimension may be absent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evomix.mechanisms.operators import segment_sums

CHUNK = 64
"""Tokens per chunk; the cost is 2 · T · (CHUNK + 2 N) · (N + P) instead of 2 · T² · (N + P)."""


def semiseparable_product(query_BHTN: Tensor, key_BHTN: Tensor, log_decay_BHT: Tensor, v_BHTP: Tensor) -> Tensor:
    """Return y_t = Σ_{i≤t} q_tᵀ k_i exp(Σ_{i<l≤t} log γ_l) v_i (Dao & Gu 2024, the block decomposition)."""
    tokens = query_BHTN.shape[-2]
    state = torch.zeros_like(key_BHTN[..., :1, :].mT @ v_BHTP[..., :1, :])
    chunks = []
    for start in range(0, tokens, CHUNK):
        part = slice(start, start + CHUNK)
        q, k, v = query_BHTN[..., part, :], key_BHTN[..., part, :], v_BHTP[..., part, :]
        sums = segment_sums(log_decay_BHT[..., part])
        inside = torch.exp(sums)
        from_start = torch.exp(log_decay_BHT[..., part].cumsum(-1)).unsqueeze(-1)
        chunks.append(((q @ k.mT) * inside) @ v + from_start * (q @ state))
        to_end = inside[..., -1, :].unsqueeze(-1)
        state = from_start[..., -1:, :] * state + (to_end * k).mT @ v
    return torch.cat(chunks, -2)


def product_flops(tokens: int, width: int, head_width: int, heads: int) -> int:
    """Return the operations of `semiseparable_product` for one sequence with P = N = head width."""
    chunk = min(CHUNK, tokens)
    return 4 * tokens * chunk * width + 4 * tokens * width * head_width + 4 * heads * tokens * chunk
