"""What must hold before jobs go to a cluster: no key that they would inherit, and no jobs of an earlier start.

The plug-in submits with `--export=ALL`, so whatever stands in the environment of Snakemake reaches every job and the
controller's files. And when Snakemake dies, its jobs go on: started again at once, it would submit them a second time.
"""

from __future__ import annotations

import os
from pathlib import Path

from evomix.cluster import queue
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


def require_no_jobs(folder: Path) -> None:
    """Raise UserError while jobs that an earlier start submitted from `folder` still wait or run."""
    jobs = [job.id for job in queue.jobs_of(folder)]
    if jobs:
        shown = " ".join(jobs[:20]) + (" ..." if len(jobs) > 20 else "")
        raise UserError(
            f"{len(jobs)} jobs of an earlier start in {folder} have not ended ({shown}); wait for them "
            f"(`squeue --me`), their results are kept, or cancel them: `scancel {shown}`"
        )
