"""Where a block may touch what surrounds it: device and precision, text made of values, the order of sets.

A cheat that acts on a GPU only, in half precision only or without gradients only is out of a CPU gate's sight, so
the block must be unable to ask. Device and dtype may be handed on under any name, but never compared, looked up or
printed; text is made while building and in error messages only (a tensor prints its device and its gradient); sets
are for membership, since the order of their strings differs between two processes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

Finding = tuple[str, ast.AST, str, str, str]
"""Check, node, what was found, limit, hint."""

BUILDING = frozenset({"__init__", "initialise"})
"""Methods that run once, before any data: there text, draws and assignments to `self` are free."""

_RECEIVERS = frozenset({"to", "finfo", "new_zeros", "new_ones", "new_full"})
_ENVIRONMENT = "The result must not depend on device or precision: pass them on (device=x.device), never compare them."
_TEXT = "Values must not become text in the forward pass: a printed tensor tells its device, precision and gradient."
_SET = "Use a tuple or a list: the order of a set differs between two runs of the same program."


def find(tree: ast.Module) -> list[Finding]:
    """Return every place where a block looks at its surroundings."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    return [*_environment(tree, parents), *_text(tree, parents), *_sets(tree, parents)]


# Device and precision


def _environment(tree: ast.Module, parents: dict[ast.AST, ast.AST]) -> Iterator[Finding]:
    """Find devices and dtypes that are used for anything but being handed on."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    named: set[str] = set()
    while True:
        known = len(named)
        values = [node for node in ast.walk(tree) if _carries(node, named)]
        for node in values:
            named |= _new_names(node, parents, functions)
        if len(named) == known:
            break
    for node in values:
        if not _handed(node, parents, functions):
            text = ast.unparse(parents[node])
            yield "environment", node, text, "device=…, dtype=…, .to(…)", _ENVIRONMENT


def _carries(node: ast.AST, named: set[str]) -> bool:
    """Tell whether an expression is a device, a dtype, one of their names, or keywords that hold one."""
    if isinstance(node, ast.Attribute):
        return node.attr in ("device", "dtype")
    if isinstance(node, ast.Name):
        return node.id in named and isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.Dict):
        return any(_carries(value, named) for value in node.values)
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "dict"
        and any(_carries(item.value, named) for item in node.keywords)
    )


def _new_names(node: ast.AST, parents: dict[ast.AST, ast.AST], functions: list[ast.FunctionDef]) -> set[str]:
    """Return the names under which a carrier goes on: the target of its assignment, or an own function's argument."""
    parent = parents[node]
    if isinstance(parent, ast.Assign | ast.AnnAssign):
        targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
        return {item.id for item in targets if isinstance(item, ast.Name)}
    if isinstance(parent, ast.Tuple) and isinstance(above := parents.get(parent), ast.Assign):
        place = parent.elts.index(node)  # type: ignore[arg-type]
        tuples = [item.elts for item in above.targets if isinstance(item, ast.Tuple) and len(item.elts) > place]
        return {item[place].id for item in tuples if isinstance(item[place], ast.Name)}  # type: ignore[attr-defined]
    called = parents.get(parent) if isinstance(parent, ast.keyword) else parent
    found: set[str] = set()
    for own in _own(called, functions) if isinstance(called, ast.Call) else []:
        found |= {item.arg for item in (own.args.vararg, own.args.kwarg) if item}
        arguments = [item.arg for item in (*own.args.posonlyargs, *own.args.args, *own.args.kwonlyargs)]
        if isinstance(parent, ast.keyword):
            found |= {parent.arg} if parent.arg else set(arguments)
        elif isinstance(called, ast.Call) and node in called.args:
            shift = int(isinstance(called.func, ast.Attribute) and arguments[:1] == ["self"])
            found |= set(arguments[called.args.index(node) + shift :][:1])
    return found


def _own(call: ast.Call, functions: list[ast.FunctionDef]) -> list[ast.FunctionDef]:
    """Return the block's own functions that a call may name (`mask(…)` or `self.mask(…)`)."""
    function = call.func
    name = function.id if isinstance(function, ast.Name) else ""
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "self":
        name = function.attr
    return [item for item in functions if item.name == name]


def _handed(node: ast.AST, parents: dict[ast.AST, ast.AST], functions: list[ast.FunctionDef]) -> bool:
    """Tell whether a carrier is merely handed on: as a keyword, to a cast or constructor, or under another name."""
    parent = parents[node]
    if isinstance(parent, ast.keyword):
        return True
    if isinstance(parent, ast.Call):
        name = parent.func.attr if isinstance(parent.func, ast.Attribute) else ""
        return node in parent.args and (name in _RECEIVERS or bool(_own(parent, functions)))
    if isinstance(parent, ast.Dict):
        return node in parent.values
    if isinstance(parent, ast.Tuple):
        above = parents.get(parent)
        targets = above.targets if isinstance(above, ast.Assign) else []
        return bool(targets) and all(
            isinstance(item, ast.Tuple) and len(item.elts) == len(parent.elts) for item in targets
        )
    names = [parent.target] if isinstance(parent, ast.AnnAssign) else getattr(parent, "targets", [])
    return isinstance(parent, ast.Assign | ast.AnnAssign) and all(isinstance(item, ast.Name) for item in names)


# Text


def _text(tree: ast.Module, parents: dict[ast.AST, ast.AST]) -> Iterator[Finding]:
    """Find text that is made of values outside __init__, initialise, error messages and annotations."""
    for node in ast.walk(tree):
        formats = isinstance(node, ast.FormattedValue)
        names = isinstance(node, ast.Name) and node.id == "str" and not _annotates(node, parents)
        if (formats or names) and not _free(node, parents):
            yield "text", node, ast.unparse(parents[node]), "text in __init__ and error messages", _TEXT
        old_style = isinstance(node, ast.Constant) and isinstance(node.value, str) and "%" in node.value
        if old_style and not isinstance(parents[node], ast.Expr):
            yield "text", node, ast.unparse(node), "no % in text (docstrings aside)", _TEXT


def _annotates(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    parent = parents[node]
    if isinstance(parent, ast.AnnAssign):
        return node is parent.annotation
    return isinstance(parent, ast.arg) or (isinstance(parent, ast.FunctionDef) and node is parent.returns)


def _free(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Tell whether a node stands in a method that builds, or in the message of an error."""
    function, current = "", node
    while (above := parents.get(current)) is not None:
        if isinstance(above, ast.Raise) or (isinstance(above, ast.Assert) and current is above.msg):
            return True
        if isinstance(above, ast.FunctionDef):
            function = above.name
        current = above
    return function in BUILDING


# Sets


def _sets(tree: ast.Module, parents: dict[ast.AST, ast.AST]) -> Iterator[Finding]:
    """Find sets that are not merely asked whether they hold something."""
    for node in ast.walk(tree):
        parent = parents.get(node)
        if isinstance(node, ast.Set):
            asked = isinstance(parent, ast.Compare) and all(isinstance(item, ast.In | ast.NotIn) for item in parent.ops)
            if not asked or node not in getattr(parent, "comparators", []):
                yield "construct", node, ast.unparse(node), "membership only", _SET
