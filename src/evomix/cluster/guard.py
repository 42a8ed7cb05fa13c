"""What must hold before jobs go to a cluster: no key that they would inherit, and no jobs of an earlier start.

The plug-in submits with `--export=ALL`, so whatever stands in the environment of Snakemake reaches every job and the
controller's files. And when Snakemake dies, its jobs go on: started again at once, it would submit them a second time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from evomix.errors import UserError
from evomix.settings import KEY_VARIABLE


def require_no_key() -> None:
    """Raise UserError when the environment holds the language model's key."""
    if os.environ.get(KEY_VARIABLE):
        raise UserError(
            f"{KEY_VARIABLE} is set, and a cluster's jobs inherit the environment; write the key into the file of "
            "`evolution.llm.key_file` (mode 0600), which only the local rule `propose` reads, and "
            f"`unset {KEY_VARIABLE}`"
        )


def jobs_of(folder: Path) -> list[str]:
    """Return the ids of SLURM jobs of this user that the workflow started in `folder` and that have not ended.

    Raises UserError when squeue does not answer: starting blindly could run jobs twice.
    """
    if shutil.which("squeue") is None:
        return []
    command = ["squeue", "--me", "--noheader", "--format=%i|%k|%Z"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        raise UserError("squeue did not answer within two minutes; start again when the controller is back") from None
    if told.returncode:
        raise UserError(f"squeue failed ({told.stderr.strip()}); start again when the controller is back")
    rows = [line.split("|") for line in told.stdout.splitlines()]
    return [
        row[0]
        for row in rows
        if len(row) == 3 and row[1].startswith("rule_") and Path(row[2]).resolve() == folder.resolve()
    ]


def require_no_jobs(folder: Path) -> None:
    """Raise UserError while jobs that an earlier start submitted from `folder` still wait or run."""
    jobs = jobs_of(folder)
    if jobs:
        shown = " ".join(jobs[:20]) + (" ..." if len(jobs) > 20 else "")
        raise UserError(
            f"{len(jobs)} jobs of an earlier start in {folder} have not ended ({shown}); wait for them "
            f"(`squeue --me`), their results are kept, or cancel them: `scancel {shown}`"
        )
