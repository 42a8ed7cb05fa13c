"""When a run counts as done, or as paused: its file is of this very spec, made by this very code.

Imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evomix.artifacts import read_json
from evomix.errors import UserError
from evomix.fingerprint import fingerprint
from evomix.specs import RunSpec, spec_digest

MODULE = "evomix.training.engine"
"""The module whose code decides a run's numbers."""


def finished_summary(spec: RunSpec, folder: Path) -> dict[str, Any] | None:
    """Return the summary of a run that this code already finished from this spec in `folder`, or None."""
    try:
        summary = read_json(Path(folder) / "summary.json", "training")
    except UserError:
        return None
    same = summary["spec_digest"] == spec_digest(spec) and summary["provenance"]["code"] == fingerprint(MODULE)
    return summary if same else None


def held_out_at(spec: RunSpec, folder: Path, step: int) -> float | None:
    """Return the held-out loss (nats per token) after `step` steps of a run that paused there or later, or None."""
    try:
        paused = read_json(Path(folder) / "paused.json", "paused")
    except UserError:
        return None
    same = paused["spec_digest"] == spec_digest(spec) and paused["code"] == fingerprint(MODULE)
    return paused["held_out"].get(str(step)) if same else None
