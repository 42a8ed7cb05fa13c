"""Mechanism files from parts: the standard member of a framework with some parts replaced."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

MM, CD, TTR = "matrix_mixer", "coefficient_dynamics", "test_time_regression"

HEADER = """import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evomix.mechanisms.{framework}.contract import {contract}, Declaration
from evomix.mechanisms.operators import causal_mask, forbid_future, keep_past, l2_normalise, segment_sums{more}
"""
CONTRACTS = {MM: "MatrixMixer", CD: "CoefficientDynamics", TTR: "TestTimeRegression"}
MORE = {
    MM: "",
    CD: "\nfrom evomix.mechanisms.coefficient_dynamics.responses import Evolution",
    TTR: "\nfrom evomix.mechanisms.test_time_regression.estimators import Points",
}
DECLARATIONS = {
    MM: 'Declaration(structure="dense", sequence_aligned=False)',
    CD: 'Declaration(readout="exp", evolution="identity", normaliser="row_sum")',
    TTR: 'Declaration(estimator="local_constant")',
}
DEFAULTS = {
    MM: {
        "generators": """
def generators(self, x):
    return self.split_heads(self.query(x)) / math.sqrt(self.head_width), self.split_heads(self.key(x))
""",
        "matrix": """
def matrix(self, q, k):
    return torch.softmax(forbid_future(q @ k.mT), -1)
""",
    },
    CD: {
        "queries": """
def queries(self, x):
    return self.split_heads(self.query(x)) / math.sqrt(self.head_width)
""",
        "keys": """
def keys(self, x):
    return self.split_heads(self.key(x))
""",
        "readout": """
def readout(self, score):
    return torch.exp(score - score.amax(-1, keepdim=True).detach())
""",
        "normaliser": """
def normaliser(self, weight):
    return weight.sum(-1, keepdim=True)
""",
    },
    TTR: {
        "queries": """
def queries(self, x):
    return self.split_heads(self.query(x)) / math.sqrt(self.head_width)
""",
        "keys": """
def keys(self, x):
    return self.split_heads(self.key(x))
""",
    },
}
INIT = """
def __init__(self, width, heads):
    super().__init__(width, heads)
    self.query = nn.Linear(width, width, bias=False)
    self.key = nn.Linear(width, width, bias=False)
"""


@dataclass(frozen=True)
class Program:
    """A mechanism file, and, for a hostile one, the layers of which one must catch it."""

    framework: str
    source: str
    caught_by: tuple[str, ...] = ()


def program(
    framework: str,
    parts: str = "",
    *,
    init: str = "",
    declaration: str | None = None,
    top: str = "",
    before: str = "",
    after: str = "",
    body: str = "",
    bases: str | None = None,
) -> str:
    """Return a file: the standard's parts, those in `parts` replaced, `init` appended to __init__.

    `top` stands in the block above the class, `body` in the class above the methods, `before` and `after` outside the
    block.
    """
    parts = textwrap.dedent(parts).strip("\n")
    written = set(re.findall(r"^def (\w+)", parts, re.MULTILINE))
    methods = [text.strip("\n") for name, text in DEFAULTS[framework].items() if name not in written]
    if "__init__" not in written:
        extra = textwrap.indent(textwrap.dedent(init).strip("\n"), "    ")
        methods.insert(0, INIT.strip("\n") + ("\n" + extra if extra.strip() else ""))
    methods.append(parts)
    inside = [textwrap.dedent(body).strip("\n"), f"declaration = {declaration or DECLARATIONS[framework]}", *methods]
    text = textwrap.indent("\n\n".join(item for item in inside if item), "    ")
    contract = CONTRACTS[framework]
    header = HEADER.format(framework=framework, contract=contract, more=MORE[framework])
    return (
        f"{header}{textwrap.dedent(before)}\n\n# EVOLVE-BLOCK-START\n{textwrap.dedent(top)}\n"
        f"class Mechanism({bases or contract}):\n{text}\n\n\n# EVOLVE-BLOCK-END\n{textwrap.dedent(after)}"
    )
