"""Fingerprint of the code that decides a rule's numbers.

Snakemake re-runs nothing when an imported module changes. Rules therefore carry a parameter that hashes the syntax
trees of a module and of everything first-party that it imports, directly or not, without comments, docstrings and
formatting: a changed line of logic re-runs, a changed comment does not. Only the standard library is imported here.
"""

from __future__ import annotations

import ast
import functools
import gc
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGE = "evomix"
_ROOT = Path(__file__).resolve().parent
_RESOURCES = (".md", ".j2", ".css", ".js", ".mplstyle")
_RESOURCE_PACKAGES = {"evolution", "report", "figures"}
_SETTLED = frozenset(
    f"{PACKAGE}.{name}" for name in ("config", "settings", "specs", "errors", "fingerprint", "provenance")
)
"""Modules that decide no number on their own: what they yield reaches rules as files (sections, specs) or labels."""


@functools.cache
def _file_of(module: str) -> Path | None:
    """Return the source file of a first-party module, or None when there is no such module."""
    path = _ROOT.joinpath(*module.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _strip(body: list[ast.stmt], imported: set[str]) -> None:
    """Drop docstrings in a block and all blocks within it, and note what its import statements name.

    Only statements are visited: neither docstrings nor imports can stand inside expressions.
    """
    for node in body:
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module and not node.level:
                imported.add(node.module)
                imported.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
        for name in ("body", "orelse", "finalbody"):
            _strip(getattr(node, name, []), imported)
        for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            _strip(part.body, imported)


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        node.body[:1] = [] if len(node.body) > 1 or isinstance(node, ast.Module) else [ast.Pass()]


def _write(value: Any, put: Callable[[str], None]) -> None:
    """Put a syntax tree as text, without positions, and without what is None or empty: there Pythons differ.

    Whether a name is read or written (`ctx`) follows from where it stands, and is a third of all nodes.
    """
    if isinstance(value, ast.AST):
        put(type(value).__name__)
        for name in value._fields:
            field = getattr(value, name, None)
            if field is not None and field != [] and name != "ctx":
                put(name)
                _write(field, put)
        put(")")
    elif isinstance(value, list):
        for item in value:
            _write(item, put)
        put("]")
    else:
        put(repr(value))


class _Cache:
    """What was computed of a text, kept beside Python's own byte code: parsing the package costs more than reading it.

    The key is the text itself, and the file's name that of this very algorithm, so that nothing in it can be stale.
    """

    def __init__(self) -> None:
        own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
        self.path = _ROOT / "__pycache__" / f"fingerprints.{own}.json"
        try:
            self.known: dict[str, tuple[str, list[str]]] = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.known = {}
        self.grown = False

    def look_up(self, text: bytes) -> tuple[str, list[str]]:
        """Return the hash of a module's logic and the names that its imports mention."""
        key = hashlib.sha256(text).hexdigest()
        if key not in self.known:
            tree, imported, parts = ast.parse(text), set[str](), list[str]()
            _drop_docstring(tree)
            _strip(tree.body, imported)
            _write(tree, parts.append)
            own = sorted(name for name in imported if name.split(".")[0] == PACKAGE)
            self.known[key] = (hashlib.sha256(" ".join(parts).encode()).hexdigest(), own)
            self.grown = True
        return self.known[key]

    def save(self) -> None:
        """Keep what is new; a package that cannot be written to costs its parsing every time, nothing else."""
        if not self.grown:
            return
        self.grown = False
        try:
            self.path.parent.mkdir(exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix="fingerprints.")
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(self.known, stream)
            Path(name).replace(self.path)
        except OSError:
            return


@functools.cache
def _cache() -> _Cache:
    return _Cache()


@functools.cache
def _module(module: str) -> tuple[str, frozenset[str]]:
    """Return the hash of one module's logic and its first-party imports."""
    path = _file_of(module)
    if path is None:
        raise ModuleNotFoundError(f"no first-party module {module}")
    digest, names = _cache().look_up(path.read_bytes())
    return digest, frozenset(name for name in names if _file_of(name)) - _SETTLED


@functools.cache
def _resources(package: str) -> str:
    """Return the hash of the prompts, templates and styles of a package."""
    digest = hashlib.sha256()
    for path in sorted(item for item in (_ROOT / package).rglob("*") if item.suffix in _RESOURCES):
        digest.update(path.relative_to(_ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


@functools.cache
def parts(*modules: str) -> tuple[tuple[str, str], ...]:
    """Return (name, hash) of `modules`, of all they import, and of the prompts and templates of their phases.

    Names are sorted; those of modules begin with the package's name, those of resources are the phase's folder.
    """
    pending, seen = list(modules), set(modules)
    gc.disable()  # syntax trees hold no cycles, and looking for some is a good part of a cold start
    try:
        while pending:
            for name in _module(pending.pop())[1] - seen:
                seen.add(name)
                pending.append(name)
    finally:
        gc.enable()
    _cache().save()
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
