"""Tied head and cross-entropy in chunks of rows, so that the (tokens × vocabulary) logits never exist at once.

At a vocabulary of 16,384 the head is half to three quarters of all FLOPs, and a plain implementation spends as much
again on copying and zero-filling logits. Here the forward pass also computes each chunk's gradient: with z = h Wᵀ
and p = softmax(z), the mean loss has ∂/∂h = (p − y) W / N and ∂/∂W = (p − y)ᵀ h / N.

On a CPU the three products go to oneDNN, which has kernels of the full vector width for every maker's processors;
the BLAS behind `torch.mm` halves it on some (measured 2.1 times slower on AMD EPYC).

Shapes: N rows (tokens), D width, V vocabulary, C rows of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

_CHUNK_ELEMENTS = {"cpu": 2**21, "cuda": 2**25}
"""Logits alive at once, which fixes the rows of a chunk: on a CPU 8 MB in float32, 128 rows at V = 16,384, so that they
stay in its cache; on a GPU 16 times as many, so that a chunk fills the device (not measured)."""

_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def _chunks(rows: int, weight_VD: torch.Tensor) -> Iterator[slice]:
    size = max(16, _CHUNK_ELEMENTS[weight_VD.device.type] // weight_VD.shape[0])
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def _autocast_dtype(hidden: torch.Tensor) -> torch.dtype:
    """Return the dtype of matrix products: autocast's where it is on, else that of `hidden`."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _product(x_MK: torch.Tensor, y_NK: torch.Tensor) -> torch.Tensor:
    """Return x yᵀ (M, N): on a CPU in float32 by oneDNN, which torch's own products use for bfloat16 only."""
    if x_MK.device.type == "cpu" and x_MK.dtype == torch.float32 and _ONEDNN:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x_MK, y_NK, None, "none", [], "")
        return product
    return torch.mm(x_MK, y_NK.t())


def _probabilities(logits_CV: torch.Tensor, targets_C1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return softmax probabilities (…, C, V) and losses (…, C) of logits, both in at least float32.

    With z the logits and p their softmax, the loss is z_max − z_target − ln p_max: exact where p_target underflows.
    """
    probabilities_CV = torch.softmax(logits_CV, -1, dtype=torch.promote_types(logits_CV.dtype, torch.float32))
    gap_C1 = logits_CV.amax(-1, keepdim=True).sub(logits_CV.gather(-1, targets_C1))
    losses_C1 = gap_C1 - probabilities_CV.amax(-1, keepdim=True).log()
    return probabilities_CV, losses_C1.squeeze(-1)


class _HeadLoss(torch.autograd.Function):
    """Mean cross-entropy of the tied head; the forward pass stores the gradient, the backward pass scales it."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        dtype = _autocast_dtype(hidden_ND)
        rows = hidden_ND.shape[0]
        hidden, weight = hidden_ND.to(dtype), weight_VD.to(dtype)
        grad_hidden = torch.empty_like(hidden)
        grad_weight_DV = torch.zeros_like(weight_VD.t(), memory_format=torch.contiguous_format)
        total = torch.zeros((), dtype=torch.promote_types(dtype, torch.float32), device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for chunk in _chunks(rows, weight):
                targets_C1 = targets_N[chunk, None]
                error_CV, losses_C = _probabilities(_product(hidden[chunk], weight), targets_C1)
                total += losses_C.sum()
                error_CV.scatter_add_(1, targets_C1, error_CV.new_full((1, 1), -1.0).expand_as(targets_C1))
                error_CV = error_CV.to(dtype)
                grad_hidden[chunk] = _product(error_CV, weight.t())
                # (D, V) rather than (V, D): the few rows go into registers, whichever library multiplies.
                grad_weight_DV += _product(hidden[chunk].t(), error_CV.t())
        ctx.save_for_backward(grad_hidden.to(hidden_ND.dtype).div_(rows), grad_weight_DV.t().div(rows))
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


class HeadLosses(torch.autograd.Function):
    """`_HeadLoss` of R runs at once, each with its own embedding, where all their logits fit in one chunk."""

    @staticmethod
    def forward(ctx: Any, hidden_RND: torch.Tensor, weight_RVD: torch.Tensor, targets_RN: torch.Tensor) -> torch.Tensor:
        dtype = _autocast_dtype(hidden_RND)
        rows = hidden_RND.shape[1]
        hidden, weight, targets_RN1 = hidden_RND.to(dtype), weight_RVD.to(dtype), targets_RN.unsqueeze(-1)
        with torch.autocast(hidden.device.type, enabled=False):
            error_RNV, losses_RN = _probabilities(torch.bmm(hidden, weight.mT), targets_RN1)
            error_RNV.scatter_add_(-1, targets_RN1, error_RNV.new_full((1, 1, 1), -1.0).expand_as(targets_RN1))
            error_RNV = error_RNV.to(dtype)
            grad_hidden, grad_weight = torch.bmm(error_RNV, weight), torch.bmm(error_RNV.mT, hidden)
        ctx.save_for_backward(grad_hidden.to(hidden_RND.dtype).div_(rows), grad_weight.to(weight_RVD.dtype).div_(rows))
        return losses_RN.mean(-1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale_R11 = grads[0][:, None, None]
        return grad_hidden * scale_R11, grad_weight * scale_R11, None


def head_losses(hidden_RBTD: torch.Tensor, weight_RVD: torch.Tensor, targets_RBT: torch.Tensor) -> torch.Tensor:
    """Return `head_loss` of each of R stacked runs (R,): at once while their logits are few, else one by one."""
    runs, vocabulary = weight_RVD.shape[:2]
    # Few runs of many logits are faster one by one: 1.4 times at 4 · 2¹⁹, while ten of 2¹⁷ are 1.4 times slower so.
    if max(runs, 8) * targets_RBT[0].numel() * vocabulary <= _CHUNK_ELEMENTS[weight_RVD.device.type]:
        losses: torch.Tensor = HeadLosses.apply(  # type: ignore[no-untyped-call]
            hidden_RBTD.flatten(1, -2), weight_RVD, targets_RBT.flatten(1)
        )
        return losses
    return torch.stack([head_loss(hidden_RBTD[run], weight_RVD[run], targets_RBT[run]) for run in range(runs)])


@torch.no_grad()
def token_losses(hidden_BTD: torch.Tensor, weight_VD: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """Return the loss of every token (B, T) in nats, in float64, without gradients."""
    dtype = _autocast_dtype(hidden_BTD)
    hidden_ND, targets_N = hidden_BTD.flatten(0, -2).to(dtype), targets_BT.flatten()
    weight_VD = weight_VD.to(dtype)
    with torch.autocast(hidden_ND.device.type, enabled=False):
        losses = [
            _probabilities(_product(hidden_ND[chunk], weight_VD), targets_N[chunk, None])[1]
            for chunk in _chunks(len(hidden_ND), weight_VD)
        ]
    return torch.cat(losses).double().view(targets_BT.shape)


def row_losses(hidden_BTD: torch.Tensor, weight_VD: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of every row (B,) in nats per token, in float64, without gradients."""
    return token_losses(hidden_BTD, weight_VD, targets_BT).mean(-1)
