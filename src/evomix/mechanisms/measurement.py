"""What a certificate is made of: one number against one tolerance, and the ways in which numbers are taken."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evomix.mechanisms.contract import Mechanism
from evomix.streams import torch_stream

LONGEST = 70
"""Tokens at which fast forms are compared with definitions: more than a chunk of any usual size."""
RANK_TOLERANCE = 1e-9
"""Singular values below this share of the largest count as zero."""


@dataclass(frozen=True)
class Measurement:
    """The outcome of one test: it passes when `value` ≤ `tolerance` (NaN never does)."""

    id: str
    meaning: str
    value: float
    tolerance: float

    def record(self, condition: str) -> dict[str, Any]:
        """Return the JSON record under the named condition (weights and mode)."""
        value = self.value if math.isfinite(self.value) else None
        passed = self.value <= self.tolerance
        return {
            "id": self.id,
            "meaning": self.meaning,
            "condition": condition,
            "value": value,
            "tolerance": self.tolerance,
            "passed": passed,
        }


@dataclass(frozen=True)
class Probe:
    """Source of the inputs that tests feed: layer-normed x and standard normal v, in float64, from named streams."""

    seed: int
    width: int
    heads: int

    def normal(self, *shape: int, name: str) -> Tensor:
        """Return standard normal numbers of the given shape."""
        stream = torch_stream(self.seed, "certificate", name)
        return torch.empty(shape, dtype=torch.float64).normal_(generator=stream)

    def x(self, batch: int, tokens: int, name: str = "x") -> Tensor:
        """Return x_BTD as the shell's LayerNorm would deliver it."""
        return torch.nn.functional.layer_norm(self.normal(batch, tokens, self.width, name=name), (self.width,))

    def v(self, batch: int, tokens: int, name: str = "v") -> Tensor:
        """Return v_BHTP with P the head width."""
        return self.normal(batch, self.heads, tokens, self.width // self.heads, name=name)


def magnitude(*tensors: Tensor) -> float:
    """Return the largest finite absolute value in the tensors."""
    return max(float(z.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).abs().amax()) for z in tensors)


def difference(a: Tensor, b: Tensor, scale: float | None = None) -> float:
    """Return max |a − b| / scale, by default relative to the largest entry of both.

    Entries that are not finite in both count as equal (an unstable recurrence may overflow with parameters × 100); one
    that is not finite in one of them only counts as infinitely different.
    """
    if a.shape != b.shape:
        return math.inf
    same = (a == b) | ~(a.isfinite() | b.isfinite())
    gap = float(torch.where(same, 0.0, (a - b).abs()).nan_to_num(nan=math.inf).amax())
    return gap / max(magnitude(a, b) if scale is None else scale, 1e-300)


def block_rank(matrix_BHTT: Tensor, rows: slice, columns: slice) -> int:
    """Return the largest numerical rank of the block over batch and heads; non-finite entries give full rank."""
    block = matrix_BHTT[..., rows, columns]
    if not bool(block.isfinite().all()):
        return min(block.shape[-2:])
    values = torch.linalg.svdvals(block / block.abs().amax((-2, -1), keepdim=True).clamp(min=1e-300))
    return int((values > RANK_TOLERANCE * values[..., :1]).sum(-1).max())


def rank_below_diagonal(matrix_BHTT: Tensor, include_diagonal: bool) -> int:
    """Return the largest rank of M[t:, :t+1] (or M[t:, :t] without the diagonal) over cuts t near the middle."""
    tokens = matrix_BHTT.shape[-1]
    cuts = sorted({tokens // 3, tokens // 2 - 1, tokens // 2, 2 * tokens // 3})
    return max(block_rank(matrix_BHTT, slice(t, None), slice(0, t + int(include_diagonal))) for t in cuts)


def linearity(mechanism: Mechanism, probe: Probe, tokens: int = 33) -> list[Measurement]:
    """Test V1 and V3: linear in v without offset, and one matrix per head that mixes every channel alike."""
    from evomix.mechanisms.matrices import mixing_matrix

    x, v, w = probe.x(2, tokens), probe.v(2, tokens), probe.v(2, tokens, "w")
    y = mechanism(x, v)
    combined = mechanism(x, 2.0 * v - 3.0 * w)
    offset = mechanism(x, torch.zeros_like(v))
    matrix = mixing_matrix(mechanism, x)
    bent = max(difference(combined, 2.0 * y - 3.0 * mechanism(x, w)), difference(offset, 0.0 * v, magnitude(y)))
    return [
        Measurement("V1", "linear in the values, no offset", bent, 1e-10),
        Measurement("V3", "one matrix per head mixes all channels", difference(matrix @ v, y), 1e-10),
        Measurement("V4", "future entries of the matrix are zero", difference(matrix.tril(), matrix), 1e-9),
    ]
