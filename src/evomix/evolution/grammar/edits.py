"""Edits as values, and those on the points (queries and keys) that all three frameworks share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evomix.evolution.grammar.editor import Program

if TYPE_CHECKING:
    import numpy as np

Draw = Callable[[list[str]], str]
"""Draws one of several names."""
Apply = Callable[[Program, Draw], str | None]
"""Edits a program and says what it did; None when it does not apply to this program."""


@dataclass(frozen=True)
class Edit:
    """A kind of edit with its relative frequency."""

    name: str
    weight: float
    apply: Apply


@dataclass(frozen=True)
class Site:
    """Where a framework's program states its queries or keys: a method's return value or a variable in it."""

    method: str
    variable: str | None = None

    def wrap(self, program: Program, template: str) -> bool:
        """Put the expression into a template; False when the program has no such place."""
        if not program.has(self.method):
            return False
        if self.variable is None:
            return program.wrap_return(self.method, template)
        return program.wrap_variable(self.method, self.variable, template)


def drawer(stream: np.random.Generator) -> Draw:
    """Return the function that draws names from a stream."""
    return lambda names: names[int(stream.integers(len(names)))]


POSITIVE = {"elu + 1": "F.elu(HOLE) + (1 + 1e-06)", "softplus": "F.softplus(HOLE) + 1e-06"}
"""Positive feature maps: with them, sums of products can normalise rows."""
FEATURES = {
    **POSITIVE,
    "SiLU": "F.silu(HOLE)",
    "squared ReLU": "F.relu(HOLE).square()",
    "unit length": "l2_normalise(HOLE)",
    "tanh": "torch.tanh(HOLE)",
}

PER_HEAD = "self.{}(x_BTD).transpose(-2, -1)"
"""One number per head and token, BHT, from a linear map of that name."""
FIXED_RATES = "NAME.copy_(-torch.log1p(-torch.exp2(-5.0 - torch.arange(self.heads)))[:, None])"
FIXED_DECAY = "-self.{}.abs() + torch.zeros_like(x_BTD[..., :1]).transpose(-2, -1)"
"""Start and log decay, BHT, of a learned rate per head (RetNet's at the start)."""
STEPS = "NAME.bias.copy_(softplus_inverse(torch.exp(torch.empty(self.heads).uniform_(math.log(1e-3), math.log(0.1)))))"
RATES = "NAME.copy_(torch.empty(self.heads, 1).uniform_(0.5, 4.0).log())"
"""Starts of the step and of the rate of a selective state space (SSD)."""
_SHIFTED = """
def shifted(self, z_BHTN: Tensor) -> Tensor:
    return z_BHTN + self.shift * F.pad(z_BHTN, (0, 0, 1, -1))
"""


def point_edits(query: Site, key: Site) -> list[Edit]:
    """Return the edits on queries and keys."""

    def both(program: Program, template: str) -> bool:
        return query.wrap(program, template) and key.wrap(program, template)

    def feature_map(program: Program, draw: Draw) -> str | None:
        name = draw(list(FEATURES))
        return f"{name} feature map on queries and keys" if both(program, FEATURES[name]) else None

    def one_feature_map(program: Program, draw: Draw) -> str | None:
        where, name = draw(["queries", "keys"]), draw(list(FEATURES))
        site = query if where == "queries" else key
        return f"{name} feature map on {where}" if site.wrap(program, FEATURES[name]) else None

    def temperature(program: Program, draw: Draw) -> str | None:
        if "log_temperature" in program.attributes:
            return None
        name = program.add_parameter("log_temperature", "nn.Parameter(torch.zeros(heads, 1, 1))")
        return "learned temperature per head" if query.wrap(program, f"HOLE * torch.exp(self.{name})") else None

    def offset(program: Program, draw: Draw) -> str | None:
        where = draw(["queries", "keys"])
        site = query if where == "queries" else key
        name = program.add_parameter(f"{where[:-1]}_offset", "nn.Parameter(torch.zeros(heads, 1, width // heads))")
        return f"learned offset of {where}" if site.wrap(program, f"HOLE + self.{name}") else None

    def shift(program: Program, draw: Draw) -> str | None:
        if program.has("shifted"):
            return None
        where = draw(["queries", "keys"])
        if not (query if where == "queries" else key).wrap(program, "self.shifted(HOLE)"):
            return None
        program.put_method(_SHIFTED)
        program.add_parameter("shift", "nn.Parameter(torch.zeros(heads, 1, width // heads))")
        return f"{where} also see the previous token"

    def rescale(program: Program, draw: Draw) -> str | None:
        factor = draw(["0.5", "0.7", "1.4", "2.0"])
        return f"queries times {factor}" if query.wrap(program, f"HOLE * {factor}") else None

    return [
        Edit("feature map", 2.0, feature_map),
        Edit("one-sided feature map", 0.7, one_feature_map),
        Edit("temperature", 1.0, temperature),
        Edit("offset", 0.7, offset),
        Edit("token shift", 0.7, shift),
        Edit("rescale", 0.7, rescale),
    ]
