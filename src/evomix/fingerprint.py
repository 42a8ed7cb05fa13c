"""Fingerprint of the code that decides a rule's numbers.

Snakemake re-runs nothing when an imported module changes. Rules therefore carry a parameter that hashes the syntax
trees of a module and of everything first-party that it imports, directly or not, without comments, docstrings and
formatting: a changed line of logic re-runs, a changed comment does not. Only the standard library is imported here.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

PACKAGE = "evomix"
_ROOT = Path(__file__).resolve().parent
_RESOURCES = (".md", ".j2", ".css", ".js", ".mplstyle")
_RESOURCE_PACKAGES = {"evolution", "report", "figures"}
_SETTLED = frozenset(
    f"{PACKAGE}.{name}" for name in ("config", "settings", "specs", "errors", "fingerprint", "provenance")
)
"""Modules that decide no number on their own: what they yield reaches rules as files (sections, specs) or labels."""


def _file_of(module: str) -> Path | None:
    """Return the source file of a first-party module, or None when there is no such module."""
    path = _ROOT.joinpath(*module.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return tree


def _imports(tree: ast.Module) -> set[str]:
    """Return first-party modules named in import statements anywhere in the tree (inside functions too)."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in found if name.split(".")[0] == PACKAGE and _file_of(name)}


@functools.cache
def _module(module: str) -> tuple[str, frozenset[str]]:
    """Return the hash of one module's logic and its first-party imports."""
    path = _file_of(module)
    if path is None:
        raise ModuleNotFoundError(f"no first-party module {module}")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = frozenset(_imports(tree))
    digest = hashlib.sha256(ast.dump(_without_docstrings(tree)).encode())
    return digest.hexdigest(), imports - _SETTLED


@functools.cache
def _resources(package: str) -> str:
    """Return the hash of the prompts, templates and styles of a package."""
    digest = hashlib.sha256()
    for path in sorted(item for item in (_ROOT / package).rglob("*") if item.suffix in _RESOURCES):
        digest.update(path.relative_to(_ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


@functools.cache
def parts(*modules: str) -> tuple[tuple[str, str], ...]:
    """Return (name, hash) of `modules`, of what they import directly or not, and of their phases' prompts and templates.

    Names are sorted; those of modules begin with the package's name, those of resources are the phase's folder.
    """
    pending, seen = list(modules), set(modules)
    while pending:
        for name in _module(pending.pop())[1] - seen:
            seen.add(name)
            pending.append(name)
    phases = {name.partition(".")[2].partition(".")[0] for name in seen} & _RESOURCE_PACKAGES
    return (
        *((name, _module(name)[0]) for name in sorted(seen)),
        *((phase, _resources(phase)) for phase in sorted(phases)),
    )


@functools.cache
def fingerprint(*modules: str) -> str:
    """Return a hash over `modules` and their transitive first-party imports, the same on every supported Python."""
    lines = [f"{name} {digest}" for name, digest in parts(*modules)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
