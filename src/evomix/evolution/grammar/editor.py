"""Surgery on a mechanism's class: find, wrap, replace and remove its parts by syntax tree, never by running it.

Every edit works on whatever program the parent is, so edits compose over generations. After an edit, parameters and
constants that nothing reads any more are removed, and so are the optional parts that state the same function for speed
(`mix`, `solve`, `multiply`) or its cost (`flops`), which the edit has made wrong.
"""

from __future__ import annotations

import ast
import copy
from typing import Any

from evomix.evolution.scaffold import block, replace_block

STALE = ("flops", "mix", "solve", "multiply")
"""Optional parts that restate the function; the contract's own definitions take their place."""
_HOLE = "HOLE"


def expression(text: str) -> ast.expr:
    """Parse one expression."""
    return ast.parse(text, mode="eval").body


def statements(text: str) -> list[ast.stmt]:
    """Parse statements."""
    return ast.parse(text).body


class _Fill(ast.NodeTransformer):
    def __init__(self, value: ast.expr) -> None:
        self.value = value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return copy.deepcopy(self.value) if node.id == _HOLE else node


def fill(template: str, value: ast.expr) -> ast.expr:
    """Return the template's expression with `value` in place of HOLE."""
    filled: ast.expr = _Fill(value).visit(expression(template))
    return filled


def reads(node: ast.AST) -> set[str]:
    """Return the attributes of `self` that a tree reads or writes."""
    return {
        item.attr
        for item in ast.walk(node)
        if isinstance(item, ast.Attribute) and isinstance(item.value, ast.Name) and item.value.id == "self"
    }


class Program:
    """A candidate program with its class `Mechanism` open for surgery.

    Raises ValueError when the evolve block holds no such class.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._tree = ast.parse(block(source))
        classes = [item for item in self._tree.body if isinstance(item, ast.ClassDef) and item.name == "Mechanism"]
        if len(classes) != 1:
            raise ValueError("the evolve block holds no class Mechanism")
        self._class = classes[0]

    def source(self) -> str:
        """Return the program with the edited block."""
        self._prune()
        tree = ast.fix_missing_locations(self._tree)
        return replace_block(self._source, ast.unparse(tree))

    # Reading

    @property
    def methods(self) -> dict[str, ast.FunctionDef]:
        """Methods of the class by name."""
        return {item.name: item for item in self._class.body if isinstance(item, ast.FunctionDef)}

    def has(self, method: str) -> bool:
        """Whether the class overrides a method."""
        return method in self.methods

    @property
    def attributes(self) -> set[str]:
        """Attributes that `__init__` sets."""
        return {name for item in self._own_init() for name in _targets(item)}

    @property
    def declaration(self) -> dict[str, Any]:
        """Keywords of the declaration that are constants."""
        call = self._declaration()
        pairs = [(str(item.arg), item.value) for item in call.keywords]
        return {name: value.value for name, value in pairs if isinstance(value, ast.Constant)}

    def text(self, method: str) -> str:
        """Return a method's source, empty when the class does not override it."""
        return ast.unparse(self.methods[method]) if self.has(method) else ""

    def returned(self, method: str) -> ast.expr | None:
        """Return the expression of a method's single return statement, or None when there is not exactly one."""
        found = self._return(method)
        return found.value if found else None

    # Writing

    def wrap_return(self, method: str, template: str) -> bool:
        """Put a method's returned expression into a template (HOLE is the old one); False where that is impossible."""
        found = self._return(method)
        if found is None or found.value is None:
            return False
        found.value = fill(template, found.value)
        return True

    def set_return(self, method: str, value: ast.expr) -> None:
        """Replace a method's returned expression."""
        found = self._return(method)
        if found:
            found.value = value

    def wrap_variable(self, method: str, variable: str, template: str) -> bool:
        """Put the expression assigned to a local variable into a template; False when it is not assigned once."""
        found = [
            item
            for item in self.methods[method].body
            if isinstance(item, ast.Assign) and [ast.unparse(target) for target in item.targets] == [variable]
        ]
        if len(found) != 1:
            return False
        found[0].value = fill(template, found[0].value)
        return True

    def put_method(self, text: str) -> None:
        """Add a method, in place of the one of that name."""
        (node,) = statements(text)
        if not isinstance(node, ast.FunctionDef):
            raise TypeError("not a method")
        names = [item.name if isinstance(item, ast.FunctionDef) else None for item in self._class.body]
        if node.name in names:
            self._class.body[names.index(node.name)] = node
        elif node.name == "initialise":
            self._class.body.insert(names.index("__init__") + 1, node)
        else:
            self._class.body.append(node)

    def remove(self, method: str) -> None:
        """Remove a method if it is there."""
        self._class.body = [
            item for item in self._class.body if not (isinstance(item, ast.FunctionDef) and item.name == method)
        ]

    def add_parameter(self, name: str, value: str, start: str | None = None) -> str:
        """Set `self.<name> = value` in __init__, and `start` (a statement) in initialise; return the name used.

        Both texts write NAME for the attribute. A taken name gets a number.
        """
        free = name
        while free in self.attributes:
            free = f"{name}_{len([item for item in self.attributes if item.startswith(name)]) + 1}"
        self.methods["__init__"].body += statements(f"self.{free} = {value.replace('NAME', free)}")
        if start is not None:
            if not self.has("initialise"):
                self.put_method("def initialise(self) -> None: pass")
            body = [item for item in self.methods["initialise"].body if not isinstance(item, ast.Pass)]
            self.methods["initialise"].body = body + statements(start.replace("NAME", f"self.{free}"))
        return free

    def declare(self, **choices: str | int | bool | None) -> None:
        """Set keywords of the declaration; None removes one."""
        call = self._declaration()
        kept = [item for item in call.keywords if item.arg not in choices]
        kept += [
            ast.keyword(arg=name, value=ast.Constant(value)) for name, value in choices.items() if value is not None
        ]
        call.keywords = sorted(kept, key=lambda item: item.arg or "")

    def add_argument(self, method: str, name: str) -> None:
        """Add a tensor argument at the end of a method's signature."""
        self.methods[method].args.args.append(ast.arg(arg=name, annotation=expression("Tensor")))

    def note(self, change: str) -> None:
        """Say the change in the class's docstring, in place of the parent's, which no longer describes the class."""
        first = self._class.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            self._class.body.pop(0)
        text = f"The parent, with: {change}."
        self._class.body.insert(0, ast.Expr(ast.Constant(text if len(text) <= 180 else f"{text[:179]}…")))

    # Internals

    def _declaration(self) -> ast.Call:
        for item in self._class.body:
            if not isinstance(item, ast.Assign) or ast.unparse(item.targets[0]) != "declaration":
                continue
            if isinstance(item.value, ast.Call):
                return item.value
        raise ValueError("the class has no declaration")

    def _own_init(self) -> list[ast.stmt]:
        init = self.methods.get("__init__")
        return init.body if init else []

    def _return(self, method: str) -> ast.Return | None:
        if not self.has(method):
            return None
        found = [item for item in ast.walk(self.methods[method]) if isinstance(item, ast.Return)]
        return found[0] if len(found) == 1 else None

    def _prune(self) -> None:
        """Remove stale parts, then attributes and class constants that no other part reads, until nothing changes."""
        for method in STALE:
            self.remove(method)
        while True:
            used: set[str] = set()
            for method, node in self.methods.items():
                if method not in ("__init__", "initialise"):
                    used |= reads(node)
            init = self._own_init()
            for item in init:
                used |= reads(item) - set(_targets(item))
            unused = self.attributes - used
            if self.has("initialise"):
                kept = [item for item in self.methods["initialise"].body if not reads(item) & unused]
                self.methods["initialise"].body = kept or [ast.Pass()]
                if not kept:
                    self.remove("initialise")
            if not unused:
                return
            self.methods["__init__"].body = [item for item in init if not set(_targets(item)) & unused]


def _targets(item: ast.stmt) -> list[str]:
    """Return the attributes of self that a statement assigns."""
    if not isinstance(item, ast.Assign):
        return []
    return [
        target.attr
        for target in item.targets
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"
    ]
