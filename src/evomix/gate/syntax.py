"""The syntax gate: read a candidate without running it, and let through only what is on the allow-list.

Runs in the trusted process, so nothing here imports torch or the candidate. What it accepts is then *normalised*
(printed again from the syntax tree, in the framework's own frame): that text is what later stages store, hash and run.
"""

from __future__ import annotations

import ast
import warnings

from evomix.gate import frame as frames
from evomix.gate.block import Visitor
from evomix.gate.refusal import Refusal

__all__ = ["Refusal", "check", "normalise"]

LIMITS = {"bytes": 60_000, "lines": 1_000, "nodes": 12_000, "depth": 60, "numbers": 300, "characters": 2_000}
"""Size of a candidate. Weights could be smuggled in literals: `numbers` and truth values, `characters` of all texts."""


def check(source: str, framework: str) -> list[Refusal]:
    """Return why `source` may not run as a mechanism of `framework`; an empty list lets it through. Pure function."""
    frame = frames.frame(framework)
    try:
        above, block, below = frames.split(source)
        head, tree, tail = _parse(above), _parse(block), _parse(below)
        outside = [*head.body, *tail.body]
        if ast.dump(_parse(source)) != ast.dump(ast.Module([*head.body, *tree.body, *tail.body], [])):
            raise ValueError("the three parts of the file do not add up to the whole")
    except SyntaxError as error:
        return [Refusal("syntax.parse", f"line {error.lineno}: {error.msg}", "valid Python", "Fix the syntax error.")]
    except ValueError as error:
        return [
            Refusal("syntax.frame", str(error), "one evolve block", "Keep both marker comments and edit between them.")
        ]
    except (RecursionError, MemoryError):
        return [Refusal("syntax.size", "nested too deeply", LIMITS["depth"], "Write flatter expressions.")]
    refusals = _sizes(block, tree)
    if refusals:
        return refusals
    refusals += [refusal for node in outside if (refusal := _outside(node, framework)) is not None]
    offset = above.count("\n") + 1
    visitor = Visitor(frame, tree, offset)
    visitor.check_module(tree)
    return refusals + visitor.refusals


def normalise(source: str, framework: str | None = None) -> str:
    """Return the one text of a candidate: docstring, the imports its block uses, the block; no comments, nothing below.

    The framework is read off the imports when not given. Raises ValueError (SyntaxError included) when `check` would
    refuse to parse the source.
    """
    above, block, _ = frames.split(source)
    head, tree = _parse(above), _parse(block)
    if framework is None:
        modules = [node.module or "" for node in head.body if isinstance(node, ast.ImportFrom)]
        named = [part for module in modules for part in module.split(".") if part in frames.FRAMEWORKS]
        if not named:
            raise ValueError("no import names the framework's contract")
        framework = named[0]
    docstring = ast.get_docstring(head)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    parts = [f'"""{docstring}\n"""\n\n' if docstring else "", frames.imports(framework, used)]
    text = f"{''.join(parts)}\n\n{frames.BLOCK_START}\n{_print(tree)}\n\n\n{frames.BLOCK_END}\n"
    return text


def _print(tree: ast.Module) -> str:
    """Print a module with two blank lines between its top-level statements."""
    return "\n\n\n".join(ast.unparse(node) for node in tree.body)


def _parse(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def _sizes(block: str, tree: ast.Module) -> list[Refusal]:
    nodes = list(ast.walk(tree))
    literals = [node for node in nodes if isinstance(node, ast.Constant)]
    documented = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [node.value for node in literals if isinstance(node.value, str) and id(node) not in documented]
    found = {
        "bytes": len(block.encode()),
        "lines": block.count("\n"),
        "nodes": len(nodes),
        "depth": _depth(tree),
        "numbers": sum(isinstance(node.value, bool | int | float | complex) for node in literals),
        "characters": sum(map(len, texts)),
    }
    hint = "Write a shorter program; numbers belong into parameters that are learned."
    return [
        Refusal("syntax.size", f"{found[key]} {key}", limit, hint)
        for key, limit in LIMITS.items()
        if found[key] > limit
    ]


def _depth(tree: ast.AST) -> int:
    """Return the depth of the tree, without recursion."""
    deepest, level = 0, [tree]
    while level:
        deepest += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return deepest


def _outside(node: ast.stmt, framework: str) -> Refusal | None:
    """Judge one statement outside the block: a docstring, an import of the frame, or an inert ground truth."""
    hint = "Change only what stands between the markers; the imports of the framework are already there."
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return None
    if isinstance(node, ast.Import):
        if all((alias.name, alias.asname) in _IMPORTS for alias in node.names):
            return None
    elif isinstance(node, ast.ImportFrom) and not node.level:
        modules = {**frames.frame(framework).modules, "torch": ("Tensor", "nn")}
        if all(alias.name in modules.get(node.module or "", ()) and not alias.asname for alias in node.names):
            return None
    elif isinstance(node, ast.FunctionDef) and node.name == "reference":
        arguments = node.args
        if not (node.decorator_list or arguments.defaults or any(arguments.kw_defaults)):
            annotations = [item.annotation for item in arguments.args] + [node.returns]
            if all(item is None or (isinstance(item, ast.Name) and item.id in _TYPES) for item in annotations):
                return None
    return Refusal("syntax.frame", f"line {node.lineno}: {ast.unparse(node)[:80]}", "the framework's frame", hint)


_IMPORTS = {("math", None), ("torch", None), ("torch.nn.functional", "F")}
_TYPES = {"Mechanism", "Tensor"}
