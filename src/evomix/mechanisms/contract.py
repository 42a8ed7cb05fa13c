"""What every mechanism is, whatever its framework: a module of fixed shape, its declaration, and its paired start.

The shell owns the value map, the output map, the head split and the residual addition. A mechanism reads the layer's
normalised input x to build a mixing rule, and that rule mixes values v over time. The part that reads x never sees v,
so feeding v = identity materialises the mixing matrix of any mechanism that is linear in v.

Legend of shapes: B batch, T tokens, D model width, H heads, N key width of a head (state size), P value width of a
head. Every function also accepts tensors without the batch dimension.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from evomix.streams import derive, torch_stream

INITIAL_STD = 0.02
"""Standard deviation of every linear map and convolution at the start (the shell's convention)."""


@dataclass(frozen=True)
class Declaration:
    """Choices that a mechanism declares inside its framework, which adds its own; the certificate checks them."""

    def describe(self) -> dict[str, Any]:
        """Return the declaration as JSON-able values."""
        return asdict(self)


class Mechanism(nn.Module):
    """Base of all mechanisms. Subclass a framework's contract, never this class."""

    framework: ClassVar[str]
    fixed: ClassVar[tuple[str, ...]]
    """Methods that define the framework; a mechanism that overrides one is refused."""
    declaration: ClassVar[Declaration]

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width = width
        self.heads = heads
        self.head_width = width // heads

    def split_heads(self, z: Tensor) -> Tensor:
        """Reshape (B, T, H·N) to (B, H, T, N)."""
        return z.reshape(*z.shape[:-1], self.heads, -1).transpose(-3, -2)

    def forward(self, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
        """Return y_BHTP. Defined by the framework's contract from its evolvable parts."""
        raise NotImplementedError

    def initialise(self) -> None:
        """Set special initial values (gates, decays). Runs after the shell's own initialisation of linear maps."""

    def flops(self, tokens: int) -> int:
        """Return the forward floating-point operations of one sequence, two per multiply-add, projections included."""
        from evomix.mechanisms.costs import measured_flops

        return measured_flops(self, tokens)


def initialise_mechanism(mechanism: Mechanism, seed: int, prefix: str) -> None:
    """Give `mechanism` its initial weights as a pure function of `seed`, `prefix` and the parameter names.

    Weights of linear maps and convolutions are N(0, 0.02²), each from the stream of its own full name, so that maps of
    equal name start equal in every variant (paired comparison); their biases are zero. Then `initialise()` runs under a
    forked global generator. `prefix` is the module's place in the model, for example `blocks.0.mechanism`.
    """
    with torch.no_grad():
        for name, module in mechanism.named_modules():
            if isinstance(module, nn.Linear | nn.Conv1d):
                stream = torch_stream(seed, "init", f"{prefix}.{name}.weight")
                weight = torch.empty(module.weight.shape).normal_(0.0, INITIAL_STD, generator=stream)
                module.weight.copy_(weight)
                if module.bias is not None:
                    module.bias.zero_()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "initialise", prefix))
            mechanism.initialise()


def build_mechanism(mechanism_type: type[Mechanism], width: int, heads: int, seed: int, prefix: str) -> Mechanism:
    """Construct and initialise a mechanism under forked generators, for shell, gate and certificate alike."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "construct", prefix))
        mechanism = mechanism_type(width, heads)
    initialise_mechanism(mechanism, seed, prefix)
    return mechanism
