"""Tied head and cross-entropy in chunks of rows, so that the (tokens × vocabulary) logits never exist at once.

At a vocabulary of 16,384 the head is half to three quarters of all FLOPs, and a plain implementation spends as much
again on copying and zero-filling logits. Here the forward pass also computes each chunk's gradient: with z = h Wᵀ
and p = softmax(z), the mean loss has ∂/∂h = (p − y) W / N and ∂/∂W = (p − y)ᵀ h / N.

Shapes: N rows (tokens), D width, V vocabulary, C rows of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

_CHUNK_ELEMENTS = 2**21
"""Logits alive at once (8 MB in float32), which fixes the rows of a chunk: 128 at V = 16,384."""


def _chunk_rows(rows: int, vocabulary: int) -> int:
    return min(rows, max(16, _CHUNK_ELEMENTS // vocabulary))


def _chunks(rows: int, vocabulary: int) -> Iterator[slice]:
    size = _chunk_rows(rows, vocabulary)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def _autocast_dtype(hidden: torch.Tensor) -> torch.dtype:
    """Return the dtype of matrix products: autocast's where it is on, else that of `hidden`."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


class _Chunk:
    """Buffers for one chunk's logits and probabilities, reused from chunk to chunk."""

    def __init__(self, rows: int, weight_VD: torch.Tensor) -> None:
        self.weight_VD = weight_VD
        self.logits_CV = weight_VD.new_empty(rows, weight_VD.shape[0])
        exact = torch.promote_types(weight_VD.dtype, torch.float32)
        self.probabilities_CV = torch.empty_like(self.logits_CV, dtype=exact)

    def evaluate(self, hidden_CD: torch.Tensor, targets_C1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return softmax probabilities (C, V) and losses (C,), both in at least float32.

        With z the logits and p their softmax, the loss is z_max − z_target − ln p_max: exact where p_target underflows.
        """
        rows = hidden_CD.shape[0]
        logits_CV = torch.mm(hidden_CD, self.weight_VD.t(), out=self.logits_CV[:rows])
        probabilities_CV = self.probabilities_CV[:rows]
        torch.softmax(logits_CV, -1, dtype=probabilities_CV.dtype, out=probabilities_CV)
        gap_C1 = logits_CV.amax(-1, keepdim=True).sub(logits_CV.gather(1, targets_C1))
        losses_C1 = gap_C1 - probabilities_CV.amax(-1, keepdim=True).log()
        return probabilities_CV, losses_C1.squeeze(1)


class _HeadLoss(torch.autograd.Function):
    """Mean cross-entropy of the tied head; the forward pass stores the gradient, the backward pass scales it."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        dtype = _autocast_dtype(hidden_ND)
        rows, vocabulary = hidden_ND.shape[0], weight_VD.shape[0]
        hidden, weight = hidden_ND.to(dtype), weight_VD.to(dtype)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight_VD)
        total = torch.zeros((), dtype=torch.promote_types(dtype, torch.float32), device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            buffers = _Chunk(_chunk_rows(rows, vocabulary), weight)
            for chunk in _chunks(rows, vocabulary):
                targets_C1 = targets_N[chunk, None]
                error_CV, losses_C = buffers.evaluate(hidden[chunk], targets_C1)
                total += losses_C.sum()
                error_CV.scatter_add_(1, targets_C1, error_CV.new_full((1, 1), -1.0).expand_as(targets_C1))
                error_CV = error_CV.to(dtype)
                torch.mm(error_CV, weight, out=grad_hidden[chunk])
                if dtype == grad_weight.dtype:
                    grad_weight.addmm_(error_CV.t(), hidden[chunk], alpha=1 / rows)
                else:
                    grad_weight.add_(torch.mm(error_CV.t(), hidden[chunk]), alpha=1 / rows)
        ctx.save_for_backward(grad_hidden.to(hidden_ND.dtype).div_(rows), grad_weight)
        return total / rows

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        (scale,) = grads
        return grad_hidden * scale, grad_weight * scale, None


def head_loss(hidden_BTD: torch.Tensor, weight_VD: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy in nats per token of targets (B, T) given hidden states and the tied embedding."""
    loss: torch.Tensor = _HeadLoss.apply(  # type: ignore[no-untyped-call]
        hidden_BTD.flatten(0, -2), weight_VD, targets_BT.flatten()
    )
    return loss


@torch.no_grad()
def row_losses(hidden_BTD: torch.Tensor, weight_VD: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of every row (B,) in nats per token, in float64, without gradients."""
    dtype = _autocast_dtype(hidden_BTD)
    hidden_ND, targets_N = hidden_BTD.flatten(0, -2).to(dtype), targets_BT.flatten()
    weight_VD = weight_VD.to(dtype)
    with torch.autocast(hidden_ND.device.type, enabled=False):
        rows, vocabulary = hidden_ND.shape[0], weight_VD.shape[0]
        buffers = _Chunk(_chunk_rows(rows, vocabulary), weight_VD)
        losses = [buffers.evaluate(hidden_ND[chunk], targets_N[chunk, None])[1] for chunk in _chunks(rows, vocabulary)]
    return torch.cat(losses).double().view(targets_BT.shape).mean(-1)
