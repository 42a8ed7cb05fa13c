"""What a step minimises: the next token of rows of text, or the scored answers of a probe.

A batch is always one tensor of whole rows, so that it can be stacked, captured and copied whatever it holds; the
objective knows how a row falls into inputs and targets and what their loss is.

Shapes: B batch, T tokens, D width, V vocabulary; leading dimensions are free in `split`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from evomix.corpus.tokens import IGNORED, TokenRows
from evomix.training.head import head_loss, head_losses


@dataclass(frozen=True)
class Objective:
    """How rows become inputs and targets, and what is minimised."""

    split: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    """Rows → inputs (…, T) and targets (…, T)."""
    loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    """Hidden states (B, T, D), tied embedding (V, D), targets (B, T) → mean loss in nats per target (0-d)."""
    losses: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    """The same of R stacked runs: (R, B, T, D), (R, V, D), (R, B, T) → (R,)."""


def next_tokens(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split rows of text (…, T+1): every token is the target of the one before it."""
    return rows[..., :-1], rows[..., 1:]


def inputs_then_answers(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split rows of a probe (…, 2T): T inputs, then the T targets, `IGNORED` where nothing is asked."""
    inputs, targets = rows.chunk(2, -1)
    return inputs, targets


def answer_loss(hidden_BTD: torch.Tensor, weight_VD: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy in nats of the scored targets alone; vocabularies of probes are tiny."""
    logits_NV = F.linear(hidden_BTD, weight_VD).flatten(0, -2).float()
    return F.cross_entropy(logits_NV, targets_BT.flatten(), ignore_index=IGNORED)


TEXT = Objective(next_tokens, head_loss, head_losses)
ANSWERS = Objective(inputs_then_answers, answer_loss, torch.func.vmap(answer_loss))


def objective_of(rows: TokenRows) -> Objective:
    """Return the objective of a shard."""
    return ANSWERS if rows.answers else TEXT
