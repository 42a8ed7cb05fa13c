"""The program a search starts from: the standard's evolve block in a neutral file with the imports it may need.

A gallery file's docstring and reference describe that one mechanism; in a candidate they would be wrong and, lying
outside the block, could never be mended. Everything a mechanism of the framework may import stands above the block.
"""

from __future__ import annotations

from evomix.errors import UserError

START, END = "# EVOLVE-BLOCK-START", "# EVOLVE-BLOCK-END"

_COMMON = """\
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
"""


def block(source: str) -> str:
    """Return the lines between the markers; UserError when the file has not exactly one block."""
    lines = source.split("\n")
    if lines.count(START) != 1 or lines.count(END) != 1 or lines.index(START) > lines.index(END):
        raise UserError(f"a mechanism file needs one {START} … {END} block")
    return "\n".join(lines[lines.index(START) + 1 : lines.index(END)])


def scaffold(source: str, framework: str) -> str:
    """Return the candidate program with the evolve block of a mechanism file."""
    header = f'"""A candidate of the framework {framework}: only the lines inside the block may change."""'
    return f"{header}\n\n{_COMMON}\n{IMPORTS[framework]}\n\n{START}\n{block(source).strip(chr(10))}\n\n\n{END}\n"


def replace_block(source: str, inside: str) -> str:
    """Return the program with another evolve block."""
    lines = source.split("\n")
    first, last = lines.index(START), lines.index(END)
    return "\n".join([*lines[: first + 1], *inside.strip("\n").split("\n"), "", "", *lines[last:]])


IMPORTS = {
    "coefficient_dynamics": """\
from evomix.mechanisms.coefficient_dynamics.contract import CoefficientDynamics, Declaration
from evomix.mechanisms.coefficient_dynamics.responses import Evolution
from evomix.mechanisms.operators import l2_normalise, softplus_inverse
""",
    "test_time_regression": """\
from evomix.mechanisms.test_time_regression.contract import Declaration, TestTimeRegression
from evomix.mechanisms.operators import l2_normalise, segment_sums, softplus_inverse
""",
    "matrix_mixer": """\
from evomix.mechanisms.matrix_mixer.contract import Declaration, MatrixMixer
from evomix.mechanisms.operators import causal_mask, forbid_future, keep_past, l2_normalise, segment_sums
from evomix.mechanisms.operators import softplus_inverse
""",
}
"""Framework: what its mechanisms import from this package."""
