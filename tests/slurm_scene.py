"""A prepared study on a running test cluster, for tests of faults: wait for what happens, break things, count jobs."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

import slurm_runs
from conftest import copy_project
from slurm_cluster import Cluster
from workflow_runs import snakemake

RUN = Path("results/test/training/matrix_mixer/standard/4k/seed_42")
OTHER = Path("results/test/mechanisms/coefficient_dynamics/standard.certificate.json")
TARGETS = (RUN / "summary.json", OTHER)
SHORT, LONG = 2_000, 60_000
"""Optimiser steps of a training of seconds, and of one that outlasts a row of faults and a minute."""
RESULTS = ("summary.json", "curve.parquet", "model.safetensors")


def options(steps: int) -> tuple[str, ...]:
    """Return the settings of trainings of `steps` that write many checkpoints."""
    return ("--config", f'training={{"steps": {steps}, "evaluate_every": {steps // 4}, "checkpoint_every": 250}}')


class Scene:
    """A project in which everything is made but `targets`, and a running cluster of its own.

    Faults hit the jobs of `rule` (or group): the beginning of what SLURM keeps as a job's comment.
    """

    def __init__(
        self, cluster: Cluster, project: Path, steps: int, targets: tuple[Path, ...] = TARGETS, rule: str = "train"
    ) -> None:
        self.cluster, self.project, self.steps, self.rule = cluster, project, steps, rule
        self.targets = tuple(map(str, targets))
        self.process: subprocess.Popen[str] | None = None

    def start(self, *more: str) -> None:
        self.process = slurm_runs.start(self.cluster, self.project, *self.targets, *more, *options(self.steps))

    def log(self) -> str:
        return (self.project / "workflow.log").read_text()

    def wait(self, what: Callable[[], object], name: str, seconds: float = 600) -> None:
        """Wait until `what` is true; fail with the log when it does not come, or the workflow ends before."""
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, f"no {name}: {self.log()[-3000:]}"
            assert self.process is None or self.process.poll() is None, f"ended before {name}: {self.log()[-3000:]}"
            time.sleep(0.2)

    def reached(self, run: Path = RUN) -> int:
        """Return the step of a training's newest checkpoint."""
        names = [path.stem for path in (self.project / run / "checkpoint").glob("step_*.safetensors")]
        return max((int(name.removeprefix("step_")) for name in names), default=0)

    def get_on(self) -> str:
        """Wait until the training runs and is past its present checkpoint; return its job's id."""
        before = self.reached()
        self.wait(lambda: self.reached() > before and self.running(), "new checkpoint")
        return self.running()

    def jobs(self, rule: str = "") -> list[dict[str, str]]:
        """Return the SLURM jobs of a rule, by default the one that faults hit, in order of submission."""
        found = [job for job in self.cluster.jobs() if job.get("Comment", "").startswith(f"rule_{rule or self.rule}_")]
        return sorted(found, key=lambda job: int(job["JobId"]))

    def running(self) -> str:
        return next((job["JobId"] for job in self.jobs() if job["JobState"] == "RUNNING"), "")

    def ended(self, job: str) -> bool:
        return any(item["JobId"] == job and item["JobState"] not in ("RUNNING", "COMPLETING") for item in self.jobs())

    def node(self) -> str:
        return next(job["NodeList"] for job in self.jobs() if job["JobState"] == "RUNNING")

    def processes(self, job: str) -> list[psutil.Process]:
        """Return SLURM's own process of every step of a job, and all that runs below it."""
        steps = [item for item in psutil.process_iter() if item.name() == "slurmstepd"]
        mine = [item for item in steps if f"[{job}." in " ".join(item.cmdline())]
        return [*mine, *(child for item in mine for child in item.children(recursive=True))]

    def finish(self) -> None:
        """Wait for the workflow's good end."""
        assert self.process is not None
        assert self.process.wait(1_800) == 0, self.log()[-4000:]

    def lives(self, run: Path = RUN) -> int:
        """Return in how many processes a training was done."""
        return int(str(slurm_runs.read_timing(self.project / run)["sessions"]))

    def command(self, *words: str) -> None:
        subprocess.run(words, env=self.cluster.environment, check=True, capture_output=True)

    def stop(self) -> None:
        """End what a failed test left running."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def tell(fault: str, outcome: str) -> None:
    """Print a line of the table of faults."""
    print(f"\n| {fault} | {outcome} |", end="", flush=True)


def contents(project: Path, runs: tuple[Path, ...] = (RUN,)) -> dict[str, bytes]:
    """Return the results of trainings, and of the other job."""
    paths = [OTHER, *(run / name for run in runs for name in RESULTS)]
    return {str(path): (project / path).read_bytes() for path in paths}


def in_peace(folder: Path, steps: int, targets: tuple[Path, ...] = TARGETS) -> Path:
    """Make the targets locally with nothing happening; return the project."""
    project = copy_project(folder / "evomix")
    snakemake(project, *map(str, targets), "--profile", "profiles/local", *options(steps))
    return project


def before(finished: Path, folder: Path, targets: tuple[Path, ...] = TARGETS) -> Path:
    """Return a copy of a finished project in which the targets, and what belongs to them, are still to be made."""
    shutil.copytree(finished, folder / "evomix")
    for target in targets:
        (folder / "evomix" / target).unlink()
        if target.name == "summary.json":
            run = folder / "evomix" / target.parent
            spec = run / "spec.json"
            for path in run.iterdir():
                if path != spec:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder / "evomix"


def nothing_twice(scene: Scene) -> None:
    """The other job ran once; the training's jobs never overlapped, and only the last of them completed."""
    assert [job["JobState"] for job in scene.jobs("certify")] == ["COMPLETED"]
    jobs = scene.jobs()
    assert [job["JobState"] for job in jobs].count("COMPLETED") == 1
    assert jobs[-1]["JobState"] == "COMPLETED"
    for earlier, later in itertools.pairwise(jobs):
        assert earlier["EndTime"] <= later["StartTime"], "two jobs of one training ran at once"
