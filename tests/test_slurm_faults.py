"""Faults on a real SLURM: whatever breaks, the same bytes come out, nothing finished is redone, nothing runs twice.

Two trainings of the smallest study run as cluster jobs; a fault hits the first. Everything before them is made once,
locally. Each fault tells in one line what happened (`pytest -s`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import slurm_runs
from conftest import copy_project
from slurm_cluster import Cluster, missing_programs
from workflow_runs import snakemake

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing_programs()), reason=f"SLURM is not installed: {', '.join(missing_programs())}"),
]

RUNS = [Path(f"results/test/training/matrix_mixer/standard/4k/seed_{seed}") for seed in (42, 43)]
TARGETS = [str(run / "summary.json") for run in RUNS]
HIT = RUNS[0]
STEPS, LONG = 4_000, 60_000
"""Optimiser steps of a training of seconds, and of one that takes more than a minute on an idle machine."""
RESULTS = ("summary.json", "curve.parquet", "model.safetensors")


def options(steps: int = STEPS) -> tuple[str, ...]:
    """Return the config of trainings that last long enough to be hit."""
    every = f'{{"steps": {steps}, "evaluate_every": 1000, "checkpoint_every": 200}}'
    return ("--config", f"training={every}")


class Scene:
    """A prepared project and a running cluster of its own for one fault."""

    def __init__(self, cluster: Cluster, project: Path) -> None:
        self.cluster, self.project = cluster, project
        self.process: subprocess.Popen[str] | None = None

    def start(self, *more: str, steps: int = STEPS) -> None:
        """Start the workflow for both trainings."""
        self.process = slurm_runs.start(self.cluster, self.project, *TARGETS, *options(steps), *more)

    def log(self) -> str:
        return (self.project / "workflow.log").read_text()

    def wait(self, what: Callable[[], object], name: str, seconds: float = 400) -> None:
        """Wait until `what` is true; fail with the log when it does not come or the workflow ends before."""
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, f"no {name}: {self.log()[-3000:]}"
            assert self.process is None or self.process.poll() is None, f"ended before {name}: {self.log()[-3000:]}"
            time.sleep(0.2)

    def until_training(self) -> str:
        """Wait until the hit training has written a checkpoint; return its job's id."""
        self.wait(lambda: list((self.project / HIT / "checkpoint").glob("step_*")), "checkpoint")
        return next(job["JobId"] for job in self.jobs() if job["JobState"] == "RUNNING")

    def finish(self) -> None:
        """Wait for the workflow's good end."""
        assert self.process is not None
        assert self.process.wait(500) == 0, self.log()[-4000:]

    def jobs(self, run: Path = HIT) -> list[dict[str, str]]:
        """Return the SLURM jobs of one training, in order of submission."""
        mark = f"_{run.name.removeprefix('seed_')}"
        found = [
            job for job in self.cluster.jobs() if job["Comment"].startswith("rule_train_") and mark in job["Comment"]
        ]
        return sorted(found, key=lambda job: int(job["JobId"]))

    def stop(self) -> None:
        """End what a failed test left running."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which everything is made but the trainings."""
    project = copy_project(tmp_path_factory.mktemp("prepared") / "evomix")
    needed = [str(run / "spec.json") for run in RUNS]
    certificate = "results/test/mechanisms/matrix_mixer/standard.certificate.json"
    snakemake(project, *needed, certificate, "--profile", "profiles/local", *options())
    return project


def trained(prepared: Path, folder: Path, steps: int) -> dict[str, bytes]:
    """Return what both trainings leave when nothing happens to them."""
    project = folder / "peace"
    shutil.copytree(prepared, project)
    snakemake(project, *TARGETS, "--profile", "profiles/local", *options(steps))
    return contents(project)


def contents(project: Path) -> dict[str, bytes]:
    return {f"{run.name}/{name}": (project / run / name).read_bytes() for run in RUNS for name in RESULTS}


@pytest.fixture(scope="module")
def expected(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return trained(prepared, tmp_path_factory.mktemp("expected"), STEPS)


@pytest.fixture
def scene(prepared: Path, tmp_path: Path) -> Iterator[Scene]:
    shutil.copytree(prepared, tmp_path / "evomix")
    with Cluster(tmp_path / "cluster") as cluster:
        scene = Scene(cluster, tmp_path / "evomix")
        yield scene
        scene.stop()


def sessions(scene: Scene, run: Path = HIT) -> int:
    """Return in how many lives a training was done."""
    return int(slurm_runs.read_timing(scene.project / run)["sessions"])


def verdict(scene: Scene, expected: dict[str, bytes], fault: str, tries: int) -> None:
    """The results are those of peace; the other training ran once; the lives of the hit one never overlapped."""
    assert contents(scene.project) == expected
    hit, other = scene.jobs(), scene.jobs(RUNS[1])
    states = [job["JobState"] + (f"+{job['Restarts']} restarts" if job["Restarts"] != "0" else "") for job in hit]
    print(f"\nfault: {fault} | jobs of the hit training: {', '.join(states)} | lives: {sessions(scene)}", flush=True)
    assert [job["JobState"] for job in other] == ["COMPLETED"]
    assert len(hit) == tries
    assert hit[-1]["JobState"] == "COMPLETED"
    for before, after in itertools.pairwise(hit):
        assert before["EndTime"] <= after["StartTime"], "two jobs of one training ran at once"


def scancel(scene: Scene) -> None:
    subprocess.run(["scancel", scene.until_training()], env=scene.cluster.environment, check=True)


def restart_controller(scene: Scene) -> None:
    scene.until_training()
    scene.cluster.stop("slurmctld")
    time.sleep(5)
    scene.cluster.start_controller(clean=False)


def restart_node_daemon(scene: Scene) -> None:
    job = scene.until_training()
    node = next(item["NodeList"] for item in scene.jobs() if item["JobId"] == job)
    scene.cluster.stop(node, signal.SIGKILL)
    time.sleep(3)
    scene.cluster.start_node(node)


def crash_node(scene: Scene) -> None:
    """Kill the daemon of the node and all that runs on it, and bring it back once SLURM has given up on it."""
    job = scene.until_training()
    node = next(item["NodeList"] for item in scene.jobs() if item["JobId"] == job)
    steps = [item for item in psutil.process_iter() if item.name() == "slurmstepd" and item.is_running()]
    mine = [item for item in steps if f"[{job}." in " ".join(item.cmdline())]
    doomed = [child for item in mine for child in item.children(recursive=True)] + mine
    scene.cluster.stop(node, signal.SIGKILL)
    for item in doomed:
        with_children_gone(item)
    scene.wait(lambda: any(item["JobState"] != "RUNNING" for item in scene.jobs() if item["JobId"] == job), "node loss")
    scene.cluster.start_node(node)


def with_children_gone(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def preempt(scene: Scene) -> None:
    """Two jobs of a partition of higher priority take both nodes for some seconds."""
    scene.until_training()
    for _ in scene.cluster.nodes:
        subprocess.run(
            ["sbatch", "-p", "urgent", "--exclusive", "-N1", "-o", "/dev/null", "--wrap", "sleep 8"],
            env=scene.cluster.environment,
            check=True,
            capture_output=True,
        )


FAULTS: dict[str, tuple[Callable[[Scene], None], int]] = {
    "scancel of a running job": (scancel, 2),
    "controller restarted": (restart_controller, 1),
    "node daemon killed and back": (restart_node_daemon, 1),
    "node lost with its processes": (crash_node, 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_leaves_no_trace(fault: str, scene: Scene, expected: dict[str, bytes]) -> None:
    inject, tries = FAULTS[fault]
    scene.start()
    inject(scene)
    scene.finish()
    verdict(scene, expected, fault, tries)
