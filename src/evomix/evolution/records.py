"""The files of a search, read back: proposals and evaluations of a wave's slots, and the state after it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomix.artifacts import read_json, read_text
from evomix.errors import UserError


@dataclass(frozen=True)
class Slot:
    """One slot of one wave: what was proposed and what became of it."""

    wave: int
    slot: int
    proposal: dict[str, Any]
    evaluation: dict[str, Any]
    source: str

    @property
    def valid(self) -> bool:
        """Whether a mechanism was trained: neither refused before training nor failed while running.

        One that lost to the guard is valid: it works and is merely worse.
        """
        status = self.evaluation["status"]
        return status in ("accepted", "diverged") or (status == "refused" and self.evaluation["check"] == "guard")


def read_slot(evaluation: Path) -> Slot:
    """Read the slot whose evaluation.json is given; UserError when its files do not belong together."""
    proposal = read_json(evaluation.parent / "proposal.json", "proposal")
    content = read_json(evaluation, "evaluation")
    if proposal["candidate"] != content["candidate"]:
        raise UserError(f"{evaluation} judges another candidate than its proposal names; delete it and run again")
    source = read_text(evaluation.parent / "candidate.py")
    return Slot(proposal["wave"], proposal["slot"], proposal, content, source)


def read_state(population: Path) -> dict[str, Any]:
    """Return the tell.json beside a population folder."""
    return read_json(population.parent / "tell.json", "tell")
