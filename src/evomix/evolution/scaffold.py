"""The program a search starts from: the standard's evolve block in a neutral file.

A gallery file's docstring and reference describe that one mechanism; in a candidate they would be wrong and, lying
outside the block, could never be mended. The gate's normalisation writes the imports that the block needs.
"""

from __future__ import annotations

from evomix.errors import UserError
from evomix.gate import syntax

START, END = "# EVOLVE-BLOCK-START", "# EVOLVE-BLOCK-END"


def block(source: str) -> str:
    """Return the lines between the markers; UserError when the file has not exactly one block."""
    lines = source.split("\n")
    if lines.count(START) != 1 or lines.count(END) != 1 or lines.index(START) > lines.index(END):
        raise UserError(f"a mechanism file needs one {START} … {END} block")
    return "\n".join(lines[lines.index(START) + 1 : lines.index(END)])


def scaffold(source: str, framework: str) -> str:
    """Return the normalised candidate program with the evolve block of a mechanism file."""
    header = f'"""A candidate of the framework {framework}: only the lines inside the block may change."""'
    return syntax.normalise(f"{header}\n\n{START}\n{block(source)}\n{END}\n", framework)


def replace_block(source: str, inside: str) -> str:
    """Return the program with another evolve block."""
    lines = source.split("\n")
    first, last = lines.index(START), lines.index(END)
    return "\n".join([*lines[: first + 1], *inside.strip("\n").split("\n"), "", "", *lines[last:]])
