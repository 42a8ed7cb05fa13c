"""The rules of an evolve block, one visitor over its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from evomix.gate import allowed, surroundings
from evomix.gate.frame import LIBRARY_NAMES, Frame
from evomix.gate.hints import ATTRIBUTE_HINTS, NODE_HINTS
from evomix.gate.refusal import Refusal
from evomix.gate.surroundings import BUILDING

_MODULES = frozenset({"torch", "nn", "F", "math"})
_LONGEST_STRING = 200
_LARGEST_INTEGER = 2**31

Function = ast.FunctionDef | ast.Lambda


def _chain(node: ast.expr) -> str | None:
    """Return `torch.linalg.solve` for such an expression, None when it does not start at a bare name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def _root(node: ast.expr) -> str | None:
    """Return the name at the bottom of attributes and subscripts (`self` for `self.cache[0].x`)."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _constant(node: ast.expr | None) -> bool:
    """Tell whether an expression is made of literals only, and immutable."""
    if node is None or isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.Tuple):
        return all(map(_constant, node.elts))
    if isinstance(node, ast.UnaryOp):
        return _constant(node.operand)
    return isinstance(node, ast.BinOp) and _constant(node.left) and _constant(node.right)


class Visitor:
    """Collects refusals over a block; `offset` is the line before the block's first."""

    def __init__(self, frame: Frame, tree: ast.Module, offset: int) -> None:
        self.frame, self.offset = frame, offset
        self.refusals: list[Refusal] = []
        self.function = ""
        nodes = list(ast.walk(tree))
        stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        arguments = {node.arg for node in nodes if isinstance(node, ast.arg)}
        defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        self.local = stored | arguments | defined
        self.own = defined | self._assigned(nodes)

    @staticmethod
    def _assigned(nodes: list[ast.AST]) -> set[str]:
        """Return the attributes that the block gives `self`: assigned, registered, or written in the class body."""
        found: set[str] = set()
        for node in nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _root(node) == "self":
                found.add(node.attr)
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in allowed.REGISTER
            ):
                found.update(
                    item.value
                    for item in node.args[:1]
                    if isinstance(item, ast.Constant) and isinstance(item.value, str)
                )
            elif isinstance(node, ast.ClassDef):
                written = [
                    item for part in node.body if not isinstance(part, ast.FunctionDef) for item in ast.walk(part)
                ]
                found.update(
                    item.id for item in written if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)
                )
        return found

    def refuse(self, check: str, node: ast.AST, what: str, limit: str, hint: str) -> None:
        """Record a refusal with the line in the candidate's file."""
        line = getattr(node, "lineno", 0) + self.offset
        self.refusals.append(Refusal(f"syntax.{check}", f"line {line}: {what[:120]}", limit, hint))

    # Structure

    def check_module(self, tree: ast.Module) -> None:
        """Check the block: one class `Mechanism`, plain functions, constants; then everything inside them."""
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        if [node.name for node in classes] != ["Mechanism"]:
            names = ", ".join(node.name for node in classes) or "no class"
            hint = f"Define one class, `class Mechanism({self.frame.contract})`, and methods instead of helper classes."
            self.refuse("frame", tree, names, "class Mechanism alone", hint)
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                self.check_class(node)
            elif not (isinstance(node, ast.FunctionDef) or self._constant_statement(node)):
                hint = "At the top of the block keep only the class, plain functions and numeric constants."
                self.refuse("frame", node, ast.unparse(node), "no code that runs on import", hint)
            self.visit(node)
        for finding in surroundings.find(tree):
            self.refuse(*finding)

    def check_class(self, node: ast.ClassDef) -> None:
        """Check bases, class-level constants and which methods are written."""
        if [ast.unparse(base) for base in node.bases] != [self.frame.contract] or node.keywords or node.decorator_list:
            hint = f"Write `class Mechanism({self.frame.contract}):` without other bases, keywords or decorators."
            self.refuse("frame", node, ast.unparse(node).splitlines()[0], self.frame.contract, hint)
        for item in node.body:
            if isinstance(item, ast.FunctionDef):
                self._method_name(item)
            elif not (self._constant_statement(item) or self._declaration(item)):
                hint = "In the class body keep only methods, `declaration = Declaration(…)` and immutable constants."
                self.refuse("frame", item, ast.unparse(item), "methods and constants", hint)

    def _method_name(self, node: ast.FunctionDef) -> None:
        name, frame = node.name, self.frame
        fixed = (frame.inherited - frame.evolvable) | allowed.MODULE_NAMES | allowed.MODULE_PRIVATE
        if name in fixed or (name.startswith("__") and name != "__init__"):
            parts = ", ".join(sorted(frame.evolvable))
            hint = f"`{name}` is fixed; the parts that may be written are {parts}, and new helpers."
            self.refuse("method", node, f"def {name}", "evolvable methods and helpers", hint)

    def _constant_statement(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Expr):
            return isinstance(node.value, ast.Constant)
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = getattr(node, "value", None)
        leaves = [leaf for item in targets for leaf in (item.elts if isinstance(item, ast.Tuple) else [item])]
        names = [leaf.id for leaf in leaves if isinstance(leaf, ast.Name)]
        plain = bool(names) and len(names) == len(leaves) and not set(names) & self._fixed_names()
        return plain and value is not None and _constant(value)

    def _fixed_names(self) -> frozenset[str]:
        return self.frame.inherited | allowed.MODULE_NAMES | allowed.MODULE_PRIVATE

    @staticmethod
    def _declaration(node: ast.stmt) -> bool:
        if not isinstance(node, ast.Assign) or [ast.unparse(target) for target in node.targets] != ["declaration"]:
            return isinstance(node, ast.Pass)
        call = node.value
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Declaration"):
            return False
        return all(map(_constant, [*call.args, *(keyword.value for keyword in call.keywords)]))

    # Expressions and statements

    def visit(self, node: ast.AST, parent: ast.AST | None = None) -> None:
        """Check one node and everything below it."""
        kind = type(node)
        if kind not in allowed.NODES and not isinstance(
            node, ast.operator | ast.unaryop | ast.boolop | ast.cmpop | ast.expr_context
        ):
            text, hint = NODE_HINTS.get(kind.__name__, (kind.__name__, "Use plain expressions, loops and functions."))
            self.refuse("construct", node, text, "plain Python", hint)
            return
        outer = self.function
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            self._check_function(node)
            if isinstance(node, ast.FunctionDef) and not outer:
                self.function = node.name
        check = getattr(self, f"_check_{kind.__name__.lower()}", None)
        if check is not None and not isinstance(node, ast.FunctionDef | ast.Lambda):
            check(node, parent)
        for child in self._children(node):
            self.visit(child, node)
        self.function = outer

    @staticmethod
    def _children(node: ast.AST) -> Iterator[ast.AST]:
        """Yield the children; a chain like `torch.linalg.solve` is judged whole, so its inside is not visited again."""
        if isinstance(node, ast.Attribute) and (chain := _chain(node)) and chain.split(".")[0] in _MODULES:
            return
        yield from ast.iter_child_nodes(node)

    def _check_function(self, node: Function) -> None:
        defaults = [*node.args.defaults, *node.args.kw_defaults]
        if not all(map(_constant, defaults)):
            hint = "Default values must be numbers, strings or None: a mutable default is memory between calls."
            self.refuse("state", node, "mutable default", "constant defaults", hint)
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if ast.unparse(decorator) != "staticmethod":
                    hint = "Remove the decorator; compilation and gradients are the engine's business."
                    self.refuse("construct", decorator, f"@{ast.unparse(decorator)}", "@staticmethod at most", hint)

    def _check_name(self, node: ast.Name, parent: ast.AST | None) -> None:
        name, frame = node.id, self.frame
        if isinstance(node.ctx, ast.Store):
            if name in LIBRARY_NAMES | frame.names | {"self", "super", "Mechanism"} or name.startswith("__"):
                hint = f"Choose another name than `{name}`, which means something in the frame."
                self.refuse("name", node, f"{name} = …", "new names", hint)
        elif name in _MODULES:
            self.refuse("name", node, name, "module attributes", f"Use `{name}` only in front of a function's name.")
        elif name not in allowed.BUILTINS | LIBRARY_NAMES | frame.names | self.local or name.startswith("__"):
            hint = ATTRIBUTE_HINTS.get(
                name, f"`{name}` is not available; use tensors, torch functions and plain Python."
            )
            self.refuse("name", node, name, "allowed names", hint)

    def _check_arg(self, node: ast.arg, parent: ast.AST | None) -> None:
        if node.arg in LIBRARY_NAMES | self.frame.names | {"super", "Mechanism"} or node.arg.startswith("__"):
            self.refuse("name", node, node.arg, "new names", f"Choose another argument name than `{node.arg}`.")

    def _check_attribute(self, node: ast.Attribute, parent: ast.AST | None) -> None:
        name, chain, base = node.attr, _chain(node) or "", node.value
        if chain.split(".")[0] in _MODULES:
            self._check_library(node, chain.replace("torch.nn.functional.", "F.").replace("torch.nn.", "nn."))
        elif isinstance(node.ctx, ast.Store | ast.Del):
            self._check_state(node)
        elif isinstance(base, ast.Name) and base.id == "self":
            self._check_self(node)
        elif isinstance(base, ast.Call) and ast.unparse(base) == "super()":
            if not (name == "__init__" and self.function == "__init__") and name not in self.frame.evolvable:
                self.refuse(
                    "attribute", node, f"super().{name}", "the contract's parts", "Call super() for the same part only."
                )
        elif name in allowed.DRAW_METHODS:
            self._check_draw(node, f".{name}")
        elif name not in allowed.METHODS | self.frame.fields:
            hint = ATTRIBUTE_HINTS.get(
                name, f"`.{name}` is not on the list of tensor methods; express it with another operator."
            )
            self.refuse("attribute", node, f".{name}", "allowed attributes", hint)

    def _check_library(self, node: ast.Attribute, chain: str) -> None:
        if chain in allowed.DRAWS:
            self._check_draw(node, chain)
        elif chain not in allowed.DOTTED:
            hint = ATTRIBUTE_HINTS.get(
                node.attr, f"`{chain}` is not on the list of functions; express it with another operator."
            )
            self.refuse("library", node, chain, "allowed functions", hint)

    def _check_draw(self, node: ast.AST, what: str) -> None:
        if self.function not in BUILDING:
            hint = "Draw random numbers in __init__ or initialise and keep them as a buffer; a forward pass draws none."
            self.refuse("randomness", node, what, "in __init__ and initialise", hint)

    def _check_self(self, node: ast.Attribute) -> None:
        name, own = node.attr, self.own | self.frame.inherited
        if name in allowed.REGISTER and self.function in BUILDING:
            return
        if name not in own or name in allowed.MODULE_NAMES | allowed.MODULE_PRIVATE or name.startswith("__"):
            hint = ATTRIBUTE_HINTS.get(name, f"`self.{name}` is neither defined in the block nor part of the contract.")
            self.refuse("attribute", node, f"self.{name}", "own and contract attributes", hint)

    def _check_state(self, node: ast.Attribute) -> None:
        fixed = self._fixed_names()
        plain = isinstance(node.value, ast.Name) and node.value.id == "self"
        if not plain or self.function not in BUILDING or node.attr in fixed or node.attr.startswith("__"):
            hint = "Assign attributes of `self` only in __init__; the forward pass must keep nothing between calls."
            self.refuse("state", node, f"{ast.unparse(node)} = …", "self.NAME in __init__", hint)

    def _check_subscript(self, node: ast.Subscript, parent: ast.AST | None) -> None:
        if isinstance(node.ctx, ast.Store | ast.Del) and _root(node) == "self" and self.function not in BUILDING:
            hint = "Do not write into parameters or buffers after __init__; compute a new tensor."
            self.refuse("state", node, f"{ast.unparse(node)} = …", "no writes to self", hint)

    def _check_call(self, node: ast.Call, parent: ast.AST | None) -> None:
        function = node.func
        if isinstance(function, ast.Attribute):
            mutates = function.attr in allowed.MUTATORS or (
                function.attr.endswith("_") and not function.attr.startswith("_")
            )
            if mutates and _root(function.value) == "self" and self.function not in BUILDING:
                hint = "Do not change parameters, buffers or lists of `self` after __init__; compute a new tensor."
                self.refuse("state", node, ast.unparse(function), "no writes to self", hint)
        if _chain(function) in ("Tensor", "torch.Tensor"):
            hint = "Use torch.zeros or torch.tensor: Tensor(…) holds whatever was in memory."
            self.refuse("randomness", node, ast.unparse(node), "no uninitialised memory", hint)
        if isinstance(function, ast.Name) and function.id == "super" and (node.args or node.keywords):
            self.refuse("construct", node, ast.unparse(node), "super()", "Write super() without arguments.")
        for keyword in node.keywords:
            if keyword.arg in ("out", "generator"):
                self.refuse("construct", node, f"{keyword.arg}=…", "no such keyword", "Return a new tensor instead.")

    def _check_constant(self, node: ast.Constant, parent: ast.AST | None) -> None:
        value = node.value
        docstring = isinstance(parent, ast.Expr)
        if isinstance(value, str) and not docstring and len(value) > _LONGEST_STRING:
            self.refuse(
                "literal", node, f"{len(value)} characters", f"{_LONGEST_STRING} characters", "Use short strings."
            )
        elif isinstance(value, bytes) or (isinstance(value, int) and abs(value) >= _LARGEST_INTEGER):
            self.refuse("literal", node, str(value)[:20], "numbers below 2³¹", "Use small numbers; learn the rest.")
