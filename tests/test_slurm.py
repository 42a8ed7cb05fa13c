"""The workflow on a real SLURM on loopback: jobs are submitted, and results equal the local ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import copy_project
from slurm_cluster import Cluster, missing_programs
from workflow_runs import snakemake

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing_programs()), reason=f"SLURM is not installed: {', '.join(missing_programs())}"),
]

TARGET = "results/test/tuning/matrix_mixer/standard/best.json"


def results_of(project: Path) -> dict[str, bytes]:
    """Return every JSON result by name, measured times aside."""
    root = project / "results/test"
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.json") if path.name != "timing.json"
    }


def test_a_part_of_the_study_runs_on_slurm_to_the_same_bytes(tmp_path: Path) -> None:
    local, remote = copy_project(tmp_path / "local"), copy_project(tmp_path / "remote")
    snakemake(local, TARGET, "--profile", "profiles/local")
    command = [
        sys.executable, "-m", "snakemake", TARGET, "--profile", "profiles/slurm",
        "--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "10",
        "--configfile", "config/presets/test.yaml",
    ]  # fmt: skip
    with Cluster(tmp_path / "cluster") as cluster:
        environment = {**cluster.environment, "PYTHONPATH": str(remote / "src"), "OMP_NUM_THREADS": "1"}
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        result = subprocess.run(command, cwd=remote, env=environment, capture_output=True, text=True, check=False)
        log = result.stdout + result.stderr
        jobs = subprocess.run(
            ["scontrol", "show", "jobs", "--oneliner"], env=environment, capture_output=True, text=True, check=True
        ).stdout
    assert result.returncode == 0, log[-5000:]
    assert jobs.count("JobState=COMPLETED") >= 5, jobs  # documents, tokenizer, four shards, trials
    expected, found = results_of(local), results_of(remote)
    assert found.keys() == expected.keys()
    assert not [name for name in expected if found[name] != expected[name]]
