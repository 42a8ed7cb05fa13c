"""The whole study on a real SLURM on loopback gives the bytes of the local run, small trainings packed together."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import slurm_runs
from conftest import ROOT, copy_project
from slurm_cluster import Cluster, missing_programs
from workflow_runs import planned, snakemake

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing_programs()), reason=f"SLURM is not installed: {', '.join(missing_programs())}"),
]

PACKED = ("--workflow-profile", "profiles/packed")


def through_slurm(folder: Path, preset: str) -> tuple[Path, list[dict[str, str]]]:
    """Run a whole study through profiles/slurm and profiles/packed; return the project and SLURM's jobs.

    The copy of the project is a clone at the same commit, which results name.
    """
    project = folder / "evomix"
    if (ROOT / ".git").exists():
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)
    copy_project(project)
    with Cluster(folder / "cluster") as cluster:
        status, said = slurm_runs.run(cluster, project, "all", *PACKED, preset=preset)
        jobs = cluster.jobs()
    assert status == 0, said[-5000:]
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    return project, jobs


def compare(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    assert len(expected) > 100
    assert found.keys() == expected.keys()
    assert not [name for name in expected if found[name] != expected[name]]


def test_the_smallest_study_ends_in_the_bytes_of_the_local_run(tmp_path: Path) -> None:
    project, jobs = through_slurm(tmp_path, "test")
    assert len(jobs) < 60  # 247 steps, of which some 110 go to the cluster
    local = tmp_path / "local"
    shutil.copytree(project, local, ignore=shutil.ignore_patterns("results", ".snakemake"))
    snakemake(local, "all", "--profile", "profiles/local")
    compare(slurm_runs.results_of(project), slurm_runs.results_of(local))


def test_the_demo_ends_in_the_bytes_of_the_local_run(tmp_path: Path) -> None:
    """The local run is the one that `make demo` left."""
    if not (ROOT / "results/demo/report.html").exists():
        pytest.skip("there is no demo to compare with; run `make demo` before")
    assert not planned(ROOT, preset="demo"), "results/demo is not of this code; run `make demo` again"
    project, jobs = through_slurm(tmp_path, "demo")
    assert len(jobs) < 40  # 293 steps, of which 119 go to the cluster
    compare(slurm_runs.results_of(project, "demo"), slurm_runs.results_of(ROOT, "demo"))
