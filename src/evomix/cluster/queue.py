"""The jobs of one clone in SLURM's queue, and which of them can never start."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from evomix.errors import UserError

_NEVER = re.compile(
    r"account|Invalid|NotAllowed|Partition(Down|Inactive|NodeLimit|TimeLimit)|BadConstraints|JobHeld|NodeDown|DOWN",
    re.IGNORECASE,
)
"""Reasons of a waiting job that time does not mend; others (Priority, Resources, limits in use) it does."""


@dataclass(frozen=True)
class Job:
    """A job that has not ended: its id, the comment that the plug-in gave it, its state and why it waits."""

    id: str
    name: str
    state: str
    reason: str

    @property
    def hopeless(self) -> bool:
        """Say whether it waits for what will not come."""
        return self.state == "PENDING" and bool(_NEVER.search(self.reason))


def jobs_of(folder: Path) -> list[Job]:
    """Return the SLURM jobs of this user that the workflow started in `folder` and that have not ended.

    Raises UserError when squeue does not answer: starting blindly could run jobs twice.
    """
    if shutil.which("squeue") is None:
        return []
    command = ["squeue", "--me", "--noheader", "--format=%i|%k|%T|%Z|%r"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        raise UserError("squeue did not answer within two minutes; start again when the controller is back") from None
    if told.returncode:
        raise UserError(f"squeue failed ({told.stderr.strip()}); start again when the controller is back")
    rows = [line.split("|", maxsplit=4) for line in told.stdout.splitlines()]
    return [
        Job(number, name, state, reason)
        for number, name, state, place, reason in (row for row in rows if len(row) == 5)
        if name.startswith("rule_") and Path(place).resolve() == folder.resolve()
    ]
