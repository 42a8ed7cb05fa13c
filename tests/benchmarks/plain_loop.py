"""A plain training loop as one would write it first, and as the predecessor did: the engine is compared with this.

Fp32, NaN checks in every forward pass, a mask built in every layer, logits of all positions sliced after the head, the
whole logits tensor in memory, one optimiser launch per parameter, and a wait for the loss at every step. It shares
nothing with the package but the names of the weights, so it also checks the engine's mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn import functional as F

from evomix.specs import Architecture, Optimisation

Dropout = Callable[[torch.Tensor], torch.Tensor]


def check(x: torch.Tensor, where: str) -> torch.Tensor:
    """Return `x`; ValueError when it holds a NaN or an infinity."""
    if torch.isnan(x).any() or torch.isinf(x).any():
        raise ValueError(f"not finite: {where}")
    return x


class Attention(nn.Module):
    """Softmax attention with a causal mask; its maps carry the engine's names."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mechanism = nn.ModuleDict(
            {"query": nn.Linear(width, width, bias=False), "key": nn.Linear(width, width, bias=False)}
        )
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        q, k, v = (
            layer(x).view(batch, tokens, self.heads, -1).transpose(1, 2)
            for layer in (self.mechanism["query"], self.mechanism["key"], self.value)
        )
        scores = q @ k.transpose(-2, -1) / math.sqrt(width // self.heads)
        mask = torch.triu(torch.ones(tokens, tokens, dtype=torch.bool, device=x.device), 1)
        weights = torch.softmax(scores.masked_fill(mask, float("-inf")), -1)
        y = (weights @ v).transpose(1, 2).reshape(batch, tokens, width)
        result: torch.Tensor = self.output(y)
        return result


class Block(Attention):
    """Attention and feed-forward, each behind a LayerNorm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward_in = nn.Linear(width, 4 * width)
        self.feed_forward_out = nn.Linear(4 * width, width)

    def run(self, x: torch.Tensor, dropout: Dropout) -> torch.Tensor:
        x = check(x + dropout(check(super().forward(self.attention_norm(x)), "attention")), "residual")
        hidden = F.gelu(self.feed_forward_in(self.feed_forward_norm(x)))
        return check(x + dropout(check(self.feed_forward_out(hidden), "feed-forward")), "residual")


class PlainTransformer(nn.Module):
    """The shell with standard attention; load the engine's state_dict to start equal."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width, tokens = architecture.width, architecture.sequence_length
        self.embedding = nn.Embedding(architecture.vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, architecture.heads) for _ in range(architecture.layers))
        self.final_norm = nn.LayerNorm(width)
        position = torch.arange(tokens + 1, dtype=torch.float64)[:, None]
        angle = position / 10_000 ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
        positions = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width]
        self.positions = (0.02 * math.sqrt(2) * positions).float()

    def forward(self, tokens: torch.Tensor, dropout: Dropout) -> torch.Tensor:
        x = dropout(self.embedding(tokens) + self.positions[: tokens.shape[1]].to(self.embedding.weight.dtype))
        for block in self.blocks:
            x = block.run(x, dropout)
        return check(self.final_norm(x) @ self.embedding.weight.T, "logits")


def optimizer(model: nn.Module, optimisation: Optimisation) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices other than the embedding."""
    decayed = [p for name, p in model.named_parameters() if p.ndim >= 2 and not name.startswith("embedding")]
    rest = [p for name, p in model.named_parameters() if p.ndim < 2 or name.startswith("embedding")]
    groups = [{"params": decayed, "weight_decay": optimisation.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=optimisation.learning_rate, betas=(0.9, 0.95), eps=1e-8, foreach=False)


def rate(optimisation: Optimisation, step: int) -> float:
    """Return the learning rate of a step: linear warm-up, cosine to a tenth."""
    if step < optimisation.warmup_steps:
        return optimisation.learning_rate * (step + 1) / optimisation.warmup_steps
    span = max(1, optimisation.steps - 1 - optimisation.warmup_steps)
    wave = math.cos(math.pi * (step - optimisation.warmup_steps) / span)
    return optimisation.learning_rate * (0.1 + 0.45 * (1 + wave))


def train(
    model: PlainTransformer, optimisation: Optimisation, batches: Iterable[torch.Tensor], dropout: Dropout
) -> list[float]:
    """Train on batches of tokens (B, T+1) and return the loss of every step."""
    adamw = optimizer(model, optimisation)
    losses = []
    for step, tokens in enumerate(batches):
        for group in adamw.param_groups:
            group["lr"] = rate(optimisation, step)
        adamw.zero_grad()
        logits = model(tokens, dropout)
        sliced = logits[:, :-1].contiguous()
        loss = F.cross_entropy(sliced.view(-1, sliced.shape[-1]), tokens[:, 1:].reshape(-1))
        check(loss, "loss")
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), optimisation.clip)
        adamw.step()
        losses.append(loss.item())
    return losses
