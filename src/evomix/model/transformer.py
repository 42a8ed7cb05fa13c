"""The fixed shell around an evolvable sequence mixer: a small pre-norm transformer that reads like its description.

Nothing here evolves: GELU feed-forward (4×, no gating), LayerNorm, pre-norm, attention then feed-forward, plain
residual additions, token embedding tied to the output head, sinusoidal positions, dropout after the embedding and on
both residual branches. The mechanism mixes values; value and output maps and the split into heads are here.

Shapes: B batch, T tokens, D width, H heads, P = D/H head width, F feed-forward width, V vocabulary.

Initial values come from one stream per parameter name, so parameters that two variants share start equal and a paired
comparison of seeds is really paired.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from evomix.mechanisms.contract import Mechanism, initialise_mechanism
from evomix.model.dropout import draw_masks
from evomix.model.sizes import FFN_MULTIPLE
from evomix.specs import Architecture
from evomix.streams import derive, torch_stream

INITIAL_DEVIATION = 0.02
"""Standard deviation of the initial weights of every linear map and of the embedding."""

POSITION_SCALE = INITIAL_DEVIATION * math.sqrt(2)
"""Amplitude of the sinusoids: their root mean square then equals that of the initial embedding. At amplitude 1 they
drown the tokens, and training stays at the unigram entropy for hundreds of steps (measured)."""

Masks = Iterator[torch.Tensor] | None


def sinusoidal_positions(tokens: int, width: int) -> torch.Tensor:
    """Return the (T, D) sinusoids of Vaswani et al. (2017), section 3.5, float64: sines even, cosines odd."""
    position_T1 = torch.arange(tokens, dtype=torch.float64)[:, None]
    frequency_K = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10_000.0) / width))
    positions_TD = torch.zeros(tokens, width, dtype=torch.float64)
    positions_TD[:, 0::2] = torch.sin(position_T1 * frequency_K)
    positions_TD[:, 1::2] = torch.cos(position_T1 * frequency_K)[:, : width // 2]
    return positions_TD


def _positions(tokens: int, width: int) -> torch.Tensor:
    """Return what is added to the embeddings (T, D), float32."""
    return (POSITION_SCALE * sinusoidal_positions(tokens, width)).float()


def _residual(x: torch.Tensor, branch: torch.Tensor, masks: Masks) -> torch.Tensor:
    """Return x + dropout(branch), in one pass."""
    return x + branch if masks is None else torch.addcmul(x, branch, next(masks))


class Block(nn.Module):
    """One pre-norm block: x + mixing(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, width: int, heads: int, mechanism: Mechanism) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.mechanism = mechanism
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward_in = nn.Linear(width, FFN_MULTIPLE * width)
        self.feed_forward_out = nn.Linear(FFN_MULTIPLE * width, width)

    def mix(self, x_BTD: torch.Tensor) -> torch.Tensor:
        """Return the mixed values of normed `x_BTD`: split v into heads, let the mechanism mix, merge, project."""
        v_BHTP = self.value(x_BTD).unflatten(-1, (self.heads, -1)).transpose(-3, -2)
        y_BHTP = self.mechanism(x_BTD, v_BHTP)
        y_BTD: torch.Tensor = self.output(y_BHTP.transpose(-3, -2).flatten(-2))
        return y_BTD

    def forward(self, x_BTD: torch.Tensor, masks: Masks) -> torch.Tensor:
        """Return the block's output (B, T, D); takes two masks when training."""
        x_BTD = _residual(x_BTD, self.mix(self.attention_norm(x_BTD)), masks)
        hidden_BTF = F.gelu(self.feed_forward_in(self.feed_forward_norm(x_BTD)))
        return _residual(x_BTD, self.feed_forward_out(hidden_BTF), masks)


class Transformer(nn.Module):
    """The shell with `mechanism` in every block; weights start from the streams of `seed`, on the CPU in float32."""

    def __init__(self, architecture: Architecture, mechanism: type[Mechanism], seed: int) -> None:
        super().__init__()
        self.architecture = architecture
        width, heads = architecture.width, architecture.heads
        with torch.random.fork_rng(devices=[]):
            self.embedding = nn.Embedding(architecture.vocabulary, width)
            self.blocks = nn.ModuleList()
            for layer in range(architecture.layers):
                torch.manual_seed(derive(seed, "mechanism", layer))
                self.blocks.append(Block(width, heads, mechanism(width, heads)))
        self.final_norm = nn.LayerNorm(width)
        self.positions_TD: torch.Tensor
        self.register_buffer("positions_TD", _positions(architecture.sequence_length, width), persistent=False)
        self._initialise(seed)

    @torch.no_grad()
    def _initialise(self, seed: int) -> None:
        for name, module in self.named_modules():
            if ".mechanism" in name or not isinstance(module, nn.Linear | nn.Embedding):
                continue
            module.weight.normal_(0, INITIAL_DEVIATION, generator=torch_stream(seed, "init", f"{name}.weight"))
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()
        for layer, mechanism in enumerate(self.mechanisms()):
            initialise_mechanism(mechanism, seed, f"blocks.{layer}.mechanism")

    def mechanisms(self) -> list[Mechanism]:
        """Return the mechanism of every block, first block first."""
        return [block.mechanism for block in cast(list[Block], list(self.blocks))]

    def forward(self, tokens_BT: torch.Tensor, masks: Masks = None) -> torch.Tensor:
        """Return the normed hidden states (B, T, D) below the head; `masks` yields one dropout mask per site."""
        x_BTD = self.embedding(tokens_BT) + self.positions_TD[: tokens_BT.shape[-1]]
        if masks is not None:
            x_BTD = x_BTD * next(masks)
        for block in self.blocks:
            x_BTD = block(x_BTD, masks)
        normed_BTD: torch.Tensor = self.final_norm(x_BTD)
        return normed_BTD

    @contextmanager
    def reading(self, tokens: int) -> Iterator[None]:
        """Inside, rows of up to `tokens` tokens can be read: the sinusoids go on beyond the trained length."""
        trained_TD = self.positions_TD
        self.positions_TD = _positions(tokens, self.architecture.width).to(trained_TD)
        try:
            yield
        finally:
            self.positions_TD = trained_TD

    def hidden(self, tokens_BT: torch.Tensor, dropout: torch.Generator | None) -> torch.Tensor:
        """Return the hidden states (B, T, D), with dropout drawn from the given generator or without."""
        probability = self.architecture.dropout
        if dropout is None or probability == 0:
            return self(tokens_BT)  # type: ignore[no-any-return]
        shape = torch.Size([*tokens_BT.shape, self.architecture.width])
        masks = draw_masks(self.dropout_sites, shape, probability, [dropout], self.embedding.weight.dtype)
        return self(tokens_BT, iter(masks[0]))  # type: ignore[no-any-return]

    @property
    def dropout_sites(self) -> int:
        """Masks that a forward pass takes: one after the embedding, two in every block."""
        return 1 + 2 * self.architecture.layers

    def parameter_counts(self) -> dict[str, int]:
        """Return the counts {non_embedding, embedding, total, mechanism}; the mechanism's are part of non_embedding."""
        total = sum(parameter.numel() for parameter in self.parameters())
        mechanisms = [parameter for mechanism in self.mechanisms() for parameter in mechanism.parameters()]
        embedding = self.embedding.weight.numel()
        return {
            "non_embedding": total - embedding,
            "embedding": embedding,
            "total": total,
            "mechanism": sum(parameter.numel() for parameter in mechanisms),
        }
