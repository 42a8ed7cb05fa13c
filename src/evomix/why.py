"""What would re-run, and why, in words: `make why TARGET=…`.

Snakemake's dry run gives a reason for every job, but a changed fingerprint says only that some code changed. So the
workflow keeps, beside its logs, which modules each fingerprint stands for; two of them compared name what changed.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evomix.artifacts import read_json, write_json
from evomix.errors import UserError
from evomix.fingerprint import fingerprint, parts

SHOWN = 3
"""Names that a list shows before it counts the rest."""
_JOB = re.compile(r"^Job \d+: (?P<job>.*)\nReason: (?P<reason>.*)$", re.MULTILINE)
_CHANGED = re.compile(r"Params have changed since last execution: .*?before: (?P<before>.*) now: (?P<now>.*)")
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
_FOLLOWS = "Input files updated by another job"


def recording(folder: Path) -> Callable[..., str]:
    """Return `fingerprint`, made to keep in `folder` what each fingerprint stands for (one small file each)."""

    def recorded(*modules: str) -> str:
        digest = fingerprint(*modules)
        path = folder / f"{digest}.json"
        if not path.exists():
            write_json(path, "fingerprint", {"parts": dict(parts(*modules))})
        return digest

    return recorded


def explain(dry_run: str, folder: Path) -> str:
    """Return sentences on what a dry run's text says would run and why; `folder` holds the kept fingerprints.

    UserError with Snakemake's own words when the text is not that of a dry run that succeeded.
    """
    jobs = [(match["job"], match["reason"].strip()) for match in _JOB.finditer(dry_run)]
    if not jobs:
        if "Nothing to be done" in dry_run:
            return "Nothing would run: everything is there and nothing has changed."
        raise UserError(f"snakemake planned nothing: {' '.join(dry_run.split())[-400:] or 'it said nothing'}")
    causes: dict[str, list[str]] = {}
    followers = 0
    for job, reason in jobs:
        found = _causes(reason, folder)
        followers += not found
        for cause in found:
            causes.setdefault(cause, []).append(job)
    lines = [f"{_count(len(jobs), 'job')} would run."]
    lines += [f"- {_count(len(names), 'job')}, {cause}: {_listed(names)}." for cause, names in causes.items()]
    if followers:
        lines.append(f"- {_count(followers, 'job')} would follow, because what they read is made again.")
    return "\n".join(lines)


def _causes(reason: str, folder: Path) -> list[str]:
    """Say one job's reason in words; nothing for a job that only follows others."""
    changed = _CHANGED.search(reason)
    if changed:
        return _parameters(changed["before"], changed["now"], folder)
    words = {
        "Missing output files": "because nothing is there yet",
        "Updated input files": f"because files changed ({_listed(_files(reason))})",
        "Set of input files has changed": "because they read other files than before",
        "Code has changed": "because the rule's command changed",
        "Software environment": "because the software environment changed",
        "Forced execution": "because you force it",
        "Incomplete output files": "because they were interrupted",
    }
    found = [said for words_of_snakemake, said in words.items() if words_of_snakemake in reason]
    return found if found or _FOLLOWS in reason else [f"for this reason of Snakemake's ({reason})"]


def _files(reason: str) -> list[str]:
    return [name.strip() for name in reason.partition(": ")[2].split(";")[0].split(",")]


def _parameters(before: str, now: str, folder: Path) -> list[str]:
    """Compare the parameters that differ: fingerprints by their modules, sections of the config by their keys."""
    old, new = _values(before), _values(now)
    if len(old) == len(new) == 1:
        if _FINGERPRINT.fullmatch(old[0]) and _FINGERPRINT.fullmatch(new[0]):
            return [_modules(old[0], new[0], folder)]
        was, now_is = _section(old[0]), _section(new[0])
        if was is not None and now_is is not None:
            return [f"because the config changed ({_listed(_differences(was, now_is))})"]
    return [f"because parameters changed ({', '.join(old) or 'none'} became {', '.join(new) or 'none'})"]


def _section(text: str) -> dict[str, Any] | None:
    """Return a section of the config, or None for a parameter that is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _values(text: str) -> list[str]:
    """Return the parameters in Snakemake's list, which quotes each of them as Python does."""
    try:
        found = ast.literal_eval(f"[{text}]")
    except (SyntaxError, ValueError):
        return [text]
    return [str(value) for value in found if value != "<nothing exclusive>"]


def _modules(old: str, new: str, folder: Path) -> str:
    try:
        kept = [read_json(folder / f"{digest}.json", "fingerprint")["parts"] for digest in (old, new)]
    except UserError:
        return "because code changed (which modules is not on record: the results come from elsewhere)"
    names = sorted(name for name in {**kept[0], **kept[1]} if kept[0].get(name) != kept[1].get(name))
    return f"because code changed ({_listed(names)})"


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Name the keys in which two JSON values differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        prefix = f"{key}." if key else ""
        return [
            line
            for name in sorted({**old, **new})
            if old.get(name) != new.get(name)
            for line in _differences(old.get(name), new.get(name), f"{prefix}{name}")
        ]
    return [f"{key} was {json.dumps(old)}, is {json.dumps(new)}"]


def _listed(names: list[str]) -> str:
    """Name the first few and count the rest, each name once."""
    counted = Counter(names)
    shown = list(counted)[:SHOWN]
    return "; ".join(shown) + (f" and {len(counted) - SHOWN} more" if len(counted) > SHOWN else "")


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("s" if number != 1 else "")
