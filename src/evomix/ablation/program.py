"""An evolve block laid out in places and lines, so that two blocks can be compared and put together anew.

A place is what has a name: a method of the class, a constant, a helper function. A method is a list of lines, its
signature first; everything else is one line. Docstrings, annotations and `flops` compute nothing and are left out.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Collection
from dataclasses import dataclass, replace

from evomix.evolution.scaffold import block, scaffold
from evomix.gate.frame import BLOCK_END, BLOCK_START

Lines = tuple[ast.stmt, ...]
DECLARATION = "declaration"
OPTIONAL = "initialise"
"""The method whose absence means the same as an empty one; its lines can therefore be compared one by one."""


@dataclass(frozen=True)
class Block:
    """One evolve block: its class statement without a body, and what stands in the class and outside of it, by name."""

    head: ast.ClassDef
    inside: dict[str, Lines]
    outside: dict[str, Lines]
    declared: dict[str, ast.expr]
    """Keywords of the declaration."""


def read(source: str) -> Block:
    """Lay out a mechanism file; UserError when it has no evolve block, ValueError when the block has no class."""
    tree = _bare(ast.parse(block(source)))
    classes = [item for item in tree.body if isinstance(item, ast.ClassDef)]
    if len(classes) != 1:
        raise ValueError("the evolve block does not hold one class")
    inside: dict[str, Lines] = {OPTIONAL: _lines(_empty(OPTIONAL))}
    declared: dict[str, ast.expr] = {}
    for item in classes[0].body:
        if _name(item) == DECLARATION and isinstance(item, ast.Assign) and isinstance(item.value, ast.Call):
            declared = {str(keyword.arg): keyword.value for keyword in item.value.keywords}
        elif not isinstance(item, ast.Pass) and _name(item) != "flops":
            inside[_name(item)] = _lines(item)
    outside: dict[str, Lines] = {_name(item): (item,) for item in tree.body if not isinstance(item, ast.ClassDef)}
    head = copy.copy(classes[0])
    head.body = []
    return Block(head, inside, outside, declared)


def write(parts: Block, framework: str) -> str:
    """Return the mechanism file of a block, as the gate normalises it."""
    declaration = ast.Assign(
        [ast.Name(DECLARATION, ast.Store())],
        ast.Call(ast.Name("Declaration", ast.Load()), [], [ast.keyword(*item) for item in parts.declared.items()]),
    )
    head = copy.copy(parts.head)
    methods = [_method(lines) for lines in parts.inside.values() if lines]
    kept = [item for item in methods if ast.dump(item) != ast.dump(_empty(OPTIONAL))]
    head.body = [declaration, *kept]
    outside = [_method(lines) for lines in parts.outside.values() if lines]
    text = ast.unparse(ast.fix_missing_locations(ast.Module([*outside, head], [])))
    return scaffold(f"{BLOCK_START}\n{text}\n{BLOCK_END}\n", framework)


def without(source: str, methods: Collection[str], framework: str) -> str:
    """Return a mechanism file without some methods of its class; the contract's own take their place."""
    parts = read(source)
    kept = {name: lines for name, lines in parts.inside.items() if name not in methods}
    return write(replace(parts, inside=kept), framework)


def _name(item: ast.stmt) -> str:
    """Return the name that a statement at the top of the block or of the class gives to something."""
    if isinstance(item, ast.FunctionDef):
        return item.name
    targets = item.targets if isinstance(item, ast.Assign) else [getattr(item, "target", item)]
    return ", ".join(ast.unparse(target) for target in targets)


def _lines(item: ast.stmt) -> Lines:
    """Return a method as its signature and its statements, anything else as one line."""
    if not isinstance(item, ast.FunctionDef):
        return (item,)
    signature = copy.copy(item)
    signature.body = []
    return (signature, *(line for line in item.body if not isinstance(line, ast.Pass)))


def _method(lines: Lines) -> ast.stmt:
    """Put a method together again; undoes `_lines`."""
    first = copy.copy(lines[0])
    if isinstance(first, ast.FunctionDef) and not first.body:
        first.body = list(lines[1:]) or [ast.Pass()]
    return first


def _empty(name: str) -> ast.FunctionDef:
    found = ast.parse(f"def {name}(self): pass").body[0]
    assert isinstance(found, ast.FunctionDef)
    return found


def _bare(tree: ast.Module) -> ast.Module:
    """Take out docstrings and the annotations of functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [item for item in node.body if not _is_text(item)] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return tree


def _is_text(item: ast.stmt) -> bool:
    return isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant) and isinstance(item.value.value, str)
