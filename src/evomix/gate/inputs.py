"""What the integrity checks feed: mechanisms in several states, inputs as the shell delivers them, replaced futures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from evomix.mechanisms.contract import Mechanism, build_mechanism
from evomix.specs import Architecture
from evomix.streams import torch_stream

SEED = 20_260_101


def normal(*shape: int, name: str) -> Tensor:
    """Return standard normal numbers, float64, from the stream of that name."""
    return torch.empty(shape, dtype=torch.float64).normal_(generator=torch_stream(SEED, "gate", name, *shape))


@dataclass(frozen=True)
class Inputs:
    """Source of layer-normed x and standard normal v for one shape of the shell."""

    width: int
    heads: int

    def __call__(self, batch: int, tokens: int, name: str = "") -> tuple[Tensor, Tensor]:
        """Return x (batch, tokens, width) and v (batch, heads, tokens, width / heads), float64."""
        x = torch.nn.functional.layer_norm(normal(batch, tokens, self.width, name=f"x{name}"), (self.width,))
        return x, normal(batch, self.heads, tokens, self.width // self.heads, name=f"v{name}")

    def replaced(
        self, x_BTD: Tensor, v_BHTP: Tensor, changes: Sequence[tuple[int, float]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Append, for every (cut, scale), a copy of row i mod B whose x and v from `cut` on are noise of that scale.

        Returns the enlarged x and v and the cuts as a tensor.
        """
        rows = torch.arange(len(changes)) % len(x_BTD)
        tokens = x_BTD.shape[1]
        cut = torch.tensor([item[0] for item in changes])
        scale = torch.tensor([item[1] for item in changes], dtype=x_BTD.dtype)
        future = torch.arange(tokens) >= cut[:, None]
        new_x, new_v = self(len(changes), tokens, "future")
        later_x = torch.where(future[..., None], new_x.to(x_BTD.dtype) * scale[:, None, None], x_BTD[rows])
        later_v = torch.where(
            future[:, None, :, None], new_v.to(v_BHTP.dtype) * scale[:, None, None, None], v_BHTP[rows]
        )
        return torch.cat([x_BTD, later_x]), torch.cat([v_BHTP, later_v]), cut


def before_cuts(y_BHTP: Tensor, bases: int, cut: Tensor) -> float:
    """Return the largest change before the cuts, relative to the outputs' size; entries not finite do not count."""
    y = y_BHTP.detach().double()
    own, changed = y[:bases][torch.arange(len(cut)) % bases], y[bases:]
    past = (torch.arange(y.shape[-2]) < cut[:, None])[:, None, :, None]
    return gap(torch.where(past, own, 0.0), torch.where(past, changed, 0.0), whole=y[bases:])


def gap(a: Tensor, b: Tensor, whole: Tensor | None = None) -> float:
    """Return max |a − b| / max(1, |a|, |whole|) over entries where both are finite; infinite when shapes differ."""
    if a.shape != b.shape:
        return math.inf
    a, b = a.detach().double(), b.detach().double()
    both = a.isfinite() & b.isfinite()
    if not bool(both.any()):
        return 0.0
    change = torch.where(both, (a - b).abs(), 0.0).amax((*range(1, a.dim()),))
    sizes = [z.nan_to_num(0.0, 0.0, 0.0).abs().amax((*range(1, z.dim()),)) for z in (a, a if whole is None else whole)]
    return float((change / torch.maximum(*sizes).clamp(min=1.0)).amax())


def states(kind: type[Mechanism], architecture: Architecture, weights: Path | None) -> dict[str, Mechanism]:
    """Return the mechanism at the start, with noise on every parameter (zero gates hide leaks), and trained; float64.

    Of trained weights (a model's safetensors file) the first and the last layer are used.
    """
    width, heads = architecture.width, architecture.heads
    found = {"start": build_mechanism(kind, width, heads, SEED, "gate").double()}
    noisy = build_mechanism(kind, width, heads, SEED, "gate").double()
    with torch.no_grad():
        for name, parameter in noisy.named_parameters():
            spread = 1 / math.sqrt(parameter.shape[-1]) if parameter.dim() > 1 else 0.5
            parameter.add_(spread * normal(*parameter.shape, name=name))
    found["perturbed"] = noisy
    if weights is not None:
        tensors = load_file(weights)
        for layer in sorted({0, architecture.layers - 1}):
            prefix = f"blocks.{layer}.mechanism."
            own = {name.removeprefix(prefix): item for name, item in tensors.items() if name.startswith(prefix)}
            mechanism = build_mechanism(kind, width, heads, SEED, "gate")
            mechanism.load_state_dict(own)
            found[f"trained layer {layer}"] = mechanism.double()
    return found
