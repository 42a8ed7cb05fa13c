"""The frame around an evolve block, read from the sources of the framework's contract without executing anything.

A mechanism file is: an optional docstring, imports out of a fixed list, the block between its two markers, and (gallery
members only) an inert function `reference` below it, which normalised sources leave out.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from evomix.errors import UserError

BLOCK_START, BLOCK_END = "# EVOLVE-BLOCK-START", "# EVOLVE-BLOCK-END"
_MECHANISMS = Path(__file__).resolve().parents[1] / "mechanisms"
FRAMEWORKS = ("coefficient_dynamics", "test_time_regression", "matrix_mixer")
_PACKAGE = "evomix.mechanisms"
_TORCH = (("torch", "import torch"), ("F", "import torch.nn.functional as F"))
LIBRARY_NAMES = frozenset({"math", "torch", "F", "Tensor", "nn"})
_ALWAYS_WRITABLE = frozenset({"__init__", "initialise", "flops"})


@dataclass(frozen=True)
class Frame:
    """What a framework lets its evolve blocks see and write."""

    contract: str
    """Name of the base class."""
    evolvable: frozenset[str]
    """Methods that a block may define beside its own helpers."""
    inherited: frozenset[str]
    """Attributes and methods of `self` that the contract provides."""
    fields: frozenset[str]
    """Fields of the framework's named tuples and declaration."""
    modules: dict[str, tuple[str, ...]]
    """First-party module → names that may be imported from it."""

    @property
    def names(self) -> frozenset[str]:
        """First-party names that a block may use."""
        return frozenset(name for names in self.modules.values() for name in names)


def _tree(path: Path) -> tuple[str, ast.Module]:
    text = path.read_text(encoding="utf-8")
    return text, ast.parse(text)


def _public(tree: ast.Module) -> tuple[str, ...]:
    """Return the public functions, classes and literal constants that a module defines."""
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return tuple(sorted(name for name in names if not name.startswith("_")))


def _modules(framework: str) -> dict[str, ast.Module]:
    """Return the first-party modules that the framework's contract and expert members import, by name.

    What they are built from is what every member may use; the common base and the specs of all frameworks are not.
    """
    names = {f"{_PACKAGE}.operators", f"{_PACKAGE}.{framework}.contract"}
    for path in (_MECHANISMS / framework).glob("*.py"):
        text, tree = _tree(path)
        if BLOCK_START in text or path.name == "contract.py":
            names |= {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module}
    names = {name for name in names if name.startswith(f"{_PACKAGE}.")}
    paths = {name: _MECHANISMS.joinpath(*name.split(".")[2:]) for name in names}
    return {name: _tree(path.with_suffix(".py"))[1] for name, path in sorted(paths.items())}


def _fields(tree: ast.Module) -> set[str]:
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    annotated = [item for node in classes for item in node.body if isinstance(item, ast.AnnAssign)]
    return {item.target.id for item in annotated if isinstance(item.target, ast.Name)}


def _members(node: ast.ClassDef) -> set[str]:
    """Return the methods of a class and the attributes that it assigns on `self`."""
    found = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
    for item in ast.walk(node):
        if isinstance(item, ast.Attribute) and isinstance(item.ctx, ast.Store):
            found.add(item.attr)
    return found


@cache
def frame(framework: str) -> Frame:
    """Return the frame of a framework; UserError when there is no such framework."""
    if framework not in FRAMEWORKS:
        raise UserError(f"unknown framework {framework!r}; it is one of {', '.join(FRAMEWORKS)}")
    _, tree = _tree(_MECHANISMS / framework / "contract.py")
    _, common = _tree(_MECHANISMS / "contract.py")
    contract = [node for node in tree.body if isinstance(node, ast.ClassDef)][-1]
    base = next(node for node in common.body if isinstance(node, ast.ClassDef) and node.name == "Mechanism")
    methods = {item.name for item in contract.body if isinstance(item, ast.FunctionDef)}
    stated = [item for item in contract.body if isinstance(item, ast.AnnAssign) and ast.unparse(item.target) == "fixed"]
    fixed = {item.value for item in ast.walk(stated[0]) if isinstance(item, ast.Constant)}
    modules = _modules(framework)
    fields = set().union(*(_fields(item) for name, item in modules.items() if framework in name))
    return Frame(
        contract=contract.name,
        evolvable=_ALWAYS_WRITABLE | (methods - fixed),
        inherited=frozenset(_members(contract) | _members(base) | {"declaration", "framework", "fixed"}),
        fields=frozenset(fields - {"framework", "declaration", "fixed"}),
        modules={name: _public(item) for name, item in modules.items()},
    )


def split(source: str) -> tuple[str, str, str]:
    """Return the text above, inside and below the evolve block; ValueError unless both markers stand there once."""
    lines = [f"{line}\n" for line in source.split("\n")]  # as Python counts lines, not as Unicode does
    starts = [number for number, line in enumerate(lines) if line.strip() == BLOCK_START]
    ends = [number for number, line in enumerate(lines) if line.strip() == BLOCK_END]
    if len(starts) != 1 or len(ends) != 1 or ends[0] < starts[0]:
        raise ValueError("the markers EVOLVE-BLOCK-START and EVOLVE-BLOCK-END do not stand once each, in this order")
    return "".join(lines[: starts[0]]), "".join(lines[starts[0] + 1 : ends[0]]), "".join(lines[ends[0] + 1 :])


def imports(framework: str, used: set[str]) -> str:
    """Return the frame's imports, as far as the block uses their names, grouped as the gallery writes them."""
    torch_lines = [line for name, line in _TORCH if name in used]
    from_torch = [name for name in ("Tensor", "nn") if name in used]
    if from_torch:
        torch_lines.append(f"from torch import {', '.join(from_torch)}")
    own = []
    for module, names in sorted(frame(framework).modules.items()):
        wanted = sorted(set(names) & used)
        if wanted:
            own.append(f"from {module} import {', '.join(wanted)}")
    groups = [["import math"] if "math" in used else [], torch_lines, own]
    return "\n\n".join("\n".join(group) for group in groups if group) + "\n"
