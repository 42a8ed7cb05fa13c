"""A finished study of preset `test` for several test files, run once a session by the pytest worker that is first."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from conftest import copy_project
from workflow_runs import snakemake


def smallest_study(base: Path) -> Path:
    """Return the project in which `all` of preset `test` has been run; `base` is the session's temporary folder."""
    session = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    project, done = session / "study/evomix", session / "study.done"
    with (session / "study.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            copy_project(project)
            snakemake(project, "all", "--profile", "profiles/local")
            done.touch()
    return project


def read(project: Path, name: str) -> dict[str, object]:
    return json.loads((project / "results/test" / name).read_text())  # type: ignore[no-any-return]
