"""Identity of candidates and programs: what counts as the same mechanism, and ids without chance.

Two candidates are the same when their syntax trees are, comments, docstrings, formatting and order of methods
aside; a duplicate never reaches a training. Program ids are uuid5 of what they name, so that two runs of a search give
the same bytes.
"""

from __future__ import annotations

import ast
import uuid

from evomix.artifacts import digest_text
from evomix.gate import syntax

NAMESPACE = uuid.UUID("6f0a3c1e-2a54-5d0b-9d1c-5b1f8f0e7a11")
"""Namespace of all program ids of evomix."""

_BODIES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def normalised(source: str) -> str:
    """Return the source as its syntax tree says it: without comments, docstrings and formatting.

    Methods and keyword arguments stand in alphabetical order, and `flops` is left out: it states a cost and mixes
    nothing. Raises SyntaxError when `source` is not Python.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, _BODIES) and node.body:
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            if documented and isinstance(first.value.value, str):  # type: ignore[attr-defined]
                node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.Call) and all(item.arg for item in node.keywords):
            node.keywords.sort(key=lambda item: item.arg or "")
        if isinstance(node, ast.ClassDef):
            methods = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name != "flops"]
            others = [item for item in node.body if not isinstance(item, ast.FunctionDef)]
            node.body = [*others, *sorted(methods, key=lambda item: item.name)] or [ast.Pass()]
    return ast.unparse(tree) + "\n"


def identity(source: str) -> str:
    """Return what two candidates share when they are the same mechanism: the SHA-256 of `normalised`."""
    return digest_text(normalised(source))


def candidate_digest(source: str, framework: str) -> str:
    """Return the name of a candidate in all records: the SHA-256 of its text as the gate normalises it.

    A text that is no mechanism file (a slot without a candidate) is named by its own SHA-256.
    """
    try:
        return digest_text(syntax.normalise(source, framework))
    except ValueError:
        return digest_text(source)


def program_id(*names: str | int) -> str:
    """Return the id of a program: the uuid5 of its names (framework, arm, place in the search, …)."""
    return str(uuid.uuid5(NAMESPACE, "\x1f".join(map(str, names))))


def complexity(source: str) -> float:
    """Return the number of syntax-tree nodes of the normalised source, the search's measure of complexity."""
    return float(sum(1 for _ in ast.walk(ast.parse(normalised(source)))))
