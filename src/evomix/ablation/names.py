"""Which names a piece of a block binds and reads: what makes one edit depend on another.

Names are written by their scope: `self.gate` for an attribute or a method, `queries:scale` for a variable in a method,
`WINDOW` for what stands outside the class.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from evomix.gate.allowed import REGISTER


@dataclass(frozen=True)
class Names:
    """Names that lines bind and names that they read."""

    binds: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()

    def __or__(self, other: Names) -> Names:
        return Names(self.binds | other.binds, self.reads | other.reads)

    def mentions(self, name: str) -> bool:
        """Tell whether a name is read."""
        return any(name in _scopes(item) for item in self.reads)

    def unbound(self, known: frozenset[str]) -> set[str]:
        """Return the names of `known` that are read but not bound; a variable may also be bound outside of its method.

        Names that are not `known` come from the framework or from libraries.
        """
        missing: set[str] = set()
        for name in self.reads:
            scopes = _scopes(name)
            if scopes & known and not scopes & self.binds:
                missing |= scopes & known
        return missing


def _scopes(name: str) -> set[str]:
    """Return what a read name may stand for: the variable of the method, or what stands outside the class."""
    return {name, name.split(":")[-1]}


def names(place: str, lines: Iterable[ast.stmt], *, inside: bool, method: bool) -> Names:
    """Return the names of some lines of a place: of a method or a constant, `inside` the class or outside of it."""
    binds: set[str] = set()
    reads: set[str] = set()
    prefix = "self." if inside else ""
    for node in (node for line in lines for node in ast.walk(line)):
        if isinstance(node, ast.FunctionDef):
            binds.add(f"{prefix}{node.name}" if node.name == place else f"{place}:{node.name}")
        elif isinstance(node, ast.arg):
            binds.add(f"{place}:{node.arg}")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            binds.add(f"{place}:{node.id}" if method else f"{prefix}{node.id}")
        elif isinstance(node, ast.Name):
            reads.add(f"{place}:{node.id}")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            (binds if isinstance(node.ctx, ast.Store) else reads).add(f"self.{node.attr}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in REGISTER:
            binds |= {
                f"self.{item.value}"
                for item in node.args[:1]
                if isinstance(item, ast.Constant) and isinstance(item.value, str)
            }
    return Names(frozenset(binds), frozenset(reads))
