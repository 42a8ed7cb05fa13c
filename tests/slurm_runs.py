"""Run the real workflow on the test cluster, for tests: start, wait, and count what SLURM was asked to run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from slurm_cluster import Cluster

FAST = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10")


def environment(cluster: Cluster, project: Path, **more: str) -> dict[str, str]:
    """Return the environment in which Snakemake of `project` reaches the cluster."""
    path = os.pathsep.join([str(Path(sys.executable).parent), cluster.environment["PATH"]])
    return {**cluster.environment, "PATH": path, "PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1", **more}


def command(*arguments: str, preset: str = "test") -> list[str]:
    """Return the command line of a run through profiles/slurm, polling often."""
    return [
        sys.executable, "-m", "snakemake", *arguments, "--profile", "profiles/slurm", *FAST,
        "--configfile", f"config/presets/{preset}.yaml",
    ]  # fmt: skip


def start(cluster: Cluster, project: Path, *arguments: str, preset: str = "test") -> subprocess.Popen[str]:
    """Start the workflow in a session of its own; its output goes to the file `workflow.log` of the project."""
    with (project / "workflow.log").open("a") as log:
        return subprocess.Popen(
            command(*arguments, preset=preset),
            cwd=project,
            env=environment(cluster, project),
            text=True,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def run(cluster: Cluster, project: Path, *arguments: str, preset: str = "test", **more: str) -> tuple[int, str]:
    """Run the workflow to its end; return exit status and output."""
    done = subprocess.run(
        command(*arguments, preset=preset),
        cwd=project,
        env=environment(cluster, project, **more),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout


def results_of(project: Path, preset: str = "test") -> dict[str, bytes]:
    """Return every result of a study by name, but neither logs nor measured times and what shows them."""
    root = project / "results" / preset
    kinds = {".json", ".parquet", ".safetensors", ".bin", ".py"}
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.suffix in kinds and "timing" not in path.name and root / "logs" not in path.parents
    }


def read_timing(run: Path) -> dict[str, object]:
    """Return the measured times of a training."""
    return json.loads((run / "timing.json").read_text())  # type: ignore[no-any-return]
