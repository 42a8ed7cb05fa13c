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

VOCABULARY = 24
"""Different tokens of inputs that resemble text."""
LOUDEST = {torch.float64: (1e-13, 1e6), torch.float32: (1e-6, 1e3)}
"""Round-off that a long sum (FFT, solve) may bring in from the largest output of a row, and the largest that counts."""


def normal(*shape: int, seed: int, name: str) -> Tensor:
    """Return standard normal numbers, float64, from the stream of that seed and name."""
    return torch.empty(shape, dtype=torch.float64).normal_(generator=torch_stream(seed, "gate", name, *shape))


@dataclass(frozen=True)
class Inputs:
    """Source of x and v for one shape of the shell, as a function of `seed`; float64.

    Plain ones are layer-normed noise x and standard normal v. Those that resemble text are made of few tokens that
    recur, with positions and a direction common to all, as in a trained model: noise never repeats itself, and what
    acts on repetition alone would stay unseen.
    """

    width: int
    heads: int
    seed: int

    def __call__(self, batch: int, tokens: int, name: str = "", text: bool = False) -> tuple[Tensor, Tensor]:
        """Return x (batch, tokens, width) and v (batch, heads, tokens, width / heads)."""
        shape = (batch, self.heads, tokens, self.width // self.heads)
        if not text:
            return self._normed(self._normal(batch, tokens, self.width, name=f"x{name}")), self._normal(
                *shape, name=f"v{name}"
            )
        common, table = self._normal(self.width, name="common"), self._normal(VOCABULARY, self.width, name="table")
        rare = self._normal(batch, tokens, name=f"tokens{name}").abs()
        token = (rare * VOCABULARY / 3).long().clamp(max=VOCABULARY - 1)
        angle = torch.arange(tokens, dtype=torch.float64)[:, None] / 100.0 ** torch.linspace(0, 1, self.width).double()
        values = self._normal(VOCABULARY, self.width, name="values")[token]
        v = values.reshape(batch, tokens, self.heads, -1).transpose(1, 2) + 0.1 * self._normal(*shape, name=f"v{name}")
        return self._normed(table[token] + 0.5 * angle.sin() + common), v

    def _normal(self, *shape: int, name: str) -> Tensor:
        return normal(*shape, seed=self.seed, name=name)

    def _normed(self, x_BTD: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(x_BTD, (self.width,))

    def replaced(
        self, x_BTD: Tensor, v_BHTP: Tensor, changes: Sequence[tuple[int, float]], text: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Append, for every (cut, scale), a copy of row i mod B whose x and v from `cut` on are others of that scale.

        Returns the enlarged x and v and the cuts as a tensor.
        """
        rows = torch.arange(len(changes)) % len(x_BTD)
        tokens = x_BTD.shape[1]
        cut = torch.tensor([item[0] for item in changes])
        scale = torch.tensor([item[1] for item in changes], dtype=x_BTD.dtype)
        future = torch.arange(tokens) >= cut[:, None]
        new_x, new_v = self(len(changes), tokens, "future", text)
        later_x = torch.where(future[..., None], new_x.to(x_BTD.dtype) * scale[:, None, None], x_BTD[rows])
        later_v = torch.where(
            future[:, None, :, None], new_v.to(v_BHTP.dtype) * scale[:, None, None, None], v_BHTP[rows]
        )
        return torch.cat([x_BTD, later_x]), torch.cat([v_BHTP, later_v]), cut


def before_cuts(y_BHTP: Tensor, bases: int, cut: Tensor) -> float:
    """Return the largest change before the cuts as `gap` measures it; entries not finite do not count."""
    y = y_BHTP.detach()
    own, changed = y[:bases][torch.arange(len(cut)) % bases], y[bases:]
    past = (torch.arange(y.shape[-2]) < cut[:, None])[:, None, :, None]
    return gap(torch.where(past, own, 0.0), torch.where(past, changed, 0.0), whole=changed)


def gap(a: Tensor, b: Tensor, whole: Tensor | None = None) -> float:
    """Return max (|a − b| − round-off) / max(1, |a|) over entries where both are finite; infinite when shapes differ.

    |a| is the output's size at that token of that head: relative to the largest of a row, one loud token would hide
    whatever the others do. Round-off of sums over a row (of a, or of `whole`) is allowed for up to a limit.
    """
    if a.shape != b.shape:
        return math.inf
    share, loudest = LOUDEST.get(a.dtype, LOUDEST[torch.float32])
    a, b = a.detach().double(), b.detach().double()
    both = a.isfinite() & b.isfinite()
    change = torch.where(both, (a - b).abs(), 0.0).amax(-1)
    clean = [z.double().nan_to_num(0.0, 0.0, 0.0).abs() for z in (a, a if whole is None else whole)]
    rows = torch.maximum(*(z.amax((*range(1, z.dim()),), keepdim=True) for z in clean)).squeeze(-1)
    allowed = share * rows.clamp(max=loudest)
    return float(((change - allowed).clamp(min=0.0) / clean[0].amax(-1).clamp(min=1.0)).amax())


def states(kind: type[Mechanism], architecture: Architecture, weights: Path | None, seed: int) -> dict[str, Mechanism]:
    """Return the mechanism at the start, with noise on every parameter (zero gates hide leaks), and trained; float64.

    Of trained weights (a model's safetensors file) the first and the last layer are used. Numbers are rounded to
    float32, so that a check may cast there and back.
    """
    width, heads = architecture.width, architecture.heads
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills uninitialised memory with NaN
    try:
        start = build_mechanism(kind, width, heads, seed, "gate")
    finally:
        torch.use_deterministic_algorithms(deterministic)
    found = {"start": start.double()}
    noisy = build_mechanism(kind, width, heads, seed, "gate").double()
    with torch.no_grad():
        for name, parameter in noisy.named_parameters():
            spread = 1 / math.sqrt(parameter.shape[-1]) if parameter.dim() > 1 else 0.5
            parameter.add_(spread * normal(*parameter.shape, seed=seed, name=name))
    found["perturbed"] = noisy.float().double()
    if weights is not None:
        tensors = load_file(weights)
        for layer in sorted({0, architecture.layers - 1}):
            prefix = f"blocks.{layer}.mechanism."
            own = {name.removeprefix(prefix): item for name, item in tensors.items() if name.startswith(prefix)}
            mechanism = build_mechanism(kind, width, heads, seed, "gate")
            mechanism.load_state_dict(own)
            found[f"trained layer {layer}"] = mechanism.double()
    return found
