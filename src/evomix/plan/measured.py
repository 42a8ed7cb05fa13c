"""Seconds per step as trainings of the same study have measured them, where there are any."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

PHASES = ("tuning", "evolution", "training")


def step_seconds(results: Path, device: str) -> dict[str, tuple[float, int]]:
    """Return size → (median seconds per step on `device`, evaluations included; number of trainings measured)."""
    found: dict[str, list[float]] = {}
    for phase in PHASES:
        for path in sorted((results / phase).glob("**/timing.json")):
            summary = path.with_name("summary.json")
            if not summary.is_file():
                continue
            timing, run = (json.loads(file.read_text(encoding="utf-8")) for file in (path, summary))
            if run["steps"] and timing["device"] == device:
                # The runs of a stack each tell the whole stack's seconds.
                found.setdefault(run["size"], []).append(timing["seconds"] / timing["runs"] / run["steps"])
    return {size: (median(values), len(values)) for size, values in found.items()}
