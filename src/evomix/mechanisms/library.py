"""The gallery on disk: find members by looking at the folders, load a mechanism from a file with clear errors."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from torch import Tensor

from evomix.artifacts import read_text
from evomix.errors import UserError
from evomix.mechanisms.contract import Mechanism
from evomix.mechanisms.members import BLOCK_START, STANDARD, members
from evomix.settings import FRAMEWORKS

BLOCK_END = "# EVOLVE-BLOCK-END"

Reference = Callable[[Mechanism, Tensor, Tensor], Tensor]


def gallery(framework: str) -> dict[str, Path]:
    """Return the expert members of a framework by name; UserError when there is no such framework."""
    if framework not in FRAMEWORKS:
        raise UserError(f"unknown framework {framework!r}; it is one of {', '.join(FRAMEWORKS)}")
    return members(framework)


def standard(framework: str) -> Path:
    """Return the file of the framework's standard member, softmax attention in its notation."""
    return gallery(framework)[STANDARD]


def program(path: Path) -> str:
    """Return a mechanism file up to the end of its evolve block: without the ground truth that stands below it.

    Raises UserError when the file has no evolve block. Nothing is executed.
    """
    text = read_text(path)
    if BLOCK_START not in text or BLOCK_END not in text:
        raise UserError(f"{path} has no {BLOCK_START[2:]} / {BLOCK_END[2:]} block; copy the frame of softmax.py")
    return text[: text.index(BLOCK_END) + len(BLOCK_END)] + "\n"


def load(path: Path, framework: str | None = None) -> type[Mechanism]:
    """Execute a mechanism file and return its class `Mechanism`: only in a process that may run that code.

    Raises UserError when the file cannot be read, has a syntax error, raises while executed, has no class `Mechanism`
    of a framework's contract, declares nothing, or belongs to another framework than the given one.
    """
    found = getattr(_execute(path), "Mechanism", None)
    if not (isinstance(found, type) and issubclass(found, Mechanism)):
        raise UserError(f"{path} defines no class `Mechanism` that subclasses a framework's contract; add one")
    declared = getattr(found, "framework", None)
    if declared not in FRAMEWORKS:
        raise UserError(f"{path}: `Mechanism` subclasses no framework's contract; use one of {', '.join(FRAMEWORKS)}")
    if framework is not None and declared != framework:
        raise UserError(f"{path} is a mechanism of {declared}, not of {framework}; subclass that framework's contract")
    if not hasattr(found, "declaration"):
        raise UserError(f"{path}: `Mechanism` has no `declaration`; state its choices with Declaration(…)")
    return found


def load_reference(path: Path) -> Reference:
    """Return the ground truth `reference(mechanism, x, v)` that stands in the file below the evolve block."""
    reference = getattr(_execute(path), "reference", None)
    if not callable(reference):
        raise UserError(f"{path} has no ground truth; add a function `reference(mechanism, x_BTD, v_BHTP)`")
    return reference  # type: ignore[no-any-return]


def _execute(path: Path) -> ModuleType:
    """Run the file as a module of its own name; the same text is run once per process."""
    path = Path(path)
    text = read_text(path)
    name = f"evomix_mechanism_{hashlib.sha256(f'{path.resolve()}{text}'.encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None:
        raise UserError(f"{path} is not a Python file; a mechanism's name ends in .py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    except SyntaxError as error:
        del sys.modules[name]
        raise UserError(f"{path}, line {error.lineno}: syntax error: {error.msg}") from None
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"{path} raises {type(error).__name__} while it is loaded: {error}") from error
    return module
