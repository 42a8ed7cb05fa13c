"""Crossover: a part of one program takes the place of another's, with the parameters and declared choices it needs."""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping

from evomix.evolution.grammar.editor import Program, reads
from evomix.evolution.grammar.edits import Draw

Components = Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
"""Unit of exchange: (methods, declaration keywords) that travel together."""


def cross(program: Program, other: Program, components: Components, draw: Draw) -> str | None:
    """Replace one differing part of `program` by that of `other`; None when no part differs.

    Parameters of equal name stay as the receiving program has them when both define them alike; otherwise the
    donor's definition comes along under a free name.
    """
    differing = [
        name
        for name, (methods, _) in components.items()
        if any(program.text(method) != other.text(method) for method in methods)
    ]
    if not differing:
        return None
    name = draw(differing)
    methods, keywords = components[name]
    donated = {method: copy.deepcopy(other.methods[method]) for method in methods if other.has(method)}
    for method in methods:
        program.remove(method)
    for node in donated.values():
        _bring(program, other, node)
        program.put_method(ast.unparse(node))
    declared = other.declaration
    program.declare(**{keyword: declared.get(keyword) for keyword in keywords})
    return f"{name} of another program"


def _bring(program: Program, other: Program, node: ast.FunctionDef) -> None:
    """Copy into `program` the attributes, starts and helpers that a donated method reads, renaming on conflict."""
    for attribute in sorted(reads(node)):
        if attribute in other.methods and attribute not in program.methods:
            helper = copy.deepcopy(other.methods[attribute])
            _bring(program, other, helper)
            program.put_method(ast.unparse(helper))
        value = _definition(other, attribute)
        if value is None or value == _definition(program, attribute):
            continue
        starts = [
            ast.unparse(item)
            for item in (other.methods["initialise"].body if other.has("initialise") else [])
            if attribute in reads(item)
        ]
        start = starts[0].replace(f"self.{attribute}.", "NAME.") if starts else None
        free = program.add_parameter(attribute, value, start)
        _rename(node, attribute, free)


def _definition(program: Program, attribute: str) -> str | None:
    for item in program.methods["__init__"].body if program.has("__init__") else []:
        if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == f"self.{attribute}":
            return ast.unparse(item.value)
    return None


def _rename(node: ast.AST, old: str, new: str) -> None:
    for item in ast.walk(node):
        if isinstance(item, ast.Attribute) and item.attr == old and ast.unparse(item.value) == "self":
            item.attr = new
