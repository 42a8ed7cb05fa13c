"""Which expert mechanisms there are: found by looking at the folders, so that a new file needs no registration.

Imports nothing heavy: the config and the workflow ask this in every job.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

BLOCK_START = "# EVOLVE-BLOCK-START"
STANDARD = "softmax"
_HERE = Path(__file__).resolve().parent


def members(framework: str) -> dict[str, Path]:
    """Return the expert members of a framework by name: every file of its folder that holds an evolve block."""
    files = sorted((_HERE / framework).glob("*.py"))
    return {file.stem: file for file in files if BLOCK_START in file.read_text(encoding="utf-8")}


def require_members(key: str, framework: str, names: Iterable[str], more: tuple[str, ...] = ()) -> None:
    """Raise ValueError unless every name is one of `more` or an expert member of a framework other than its standard.

    `key` is what named them, for the message.
    """
    known = [*more, *(name for name in members(framework) if name != STANDARD)]
    for name in names:
        if name not in known:
            raise ValueError(f"{key} names {name!r}, which {framework} lacks (it has {', '.join(known)})")
