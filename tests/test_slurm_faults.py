"""Faults on a real SLURM: whatever breaks, the same bytes come out, nothing finished is redone, nothing runs twice.

One training goes through a row of faults, each after it got on since the one before; another job of the same run is
finished by then and must stay as it is. Every fault tells in one line what happened (`pytest -s`).
"""

from __future__ import annotations

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

RUN = Path("results/test/training/matrix_mixer/standard/4k/seed_42")
OTHER = Path("results/test/mechanisms/coefficient_dynamics/standard.certificate.json")
TARGETS = (str(RUN / "summary.json"), str(OTHER))
SHORT, LONG = 2_000, 60_000
"""Optimiser steps of a training of seconds, and of one that outlasts a row of faults on an idle machine."""
RESULTS = ("summary.json", "curve.parquet", "model.safetensors")


def options(steps: int) -> tuple[str, ...]:
    return ("--config", f'training={{"steps": {steps}, "evaluate_every": {steps // 4}, "checkpoint_every": 250}}')


class Scene:
    """A prepared project and a running cluster of its own."""

    def __init__(self, cluster: Cluster, project: Path, steps: int) -> None:
        self.cluster, self.project, self.steps = cluster, project, steps
        self.process: subprocess.Popen[str] | None = None

    def start(self, *more: str) -> None:
        self.process = slurm_runs.start(self.cluster, self.project, *TARGETS, *more, *options(self.steps))

    def log(self) -> str:
        return (self.project / "workflow.log").read_text()

    def wait(self, what: Callable[[], object], name: str, seconds: float = 420) -> None:
        """Wait until `what` is true; fail with the log when it does not come, or the workflow ends before."""
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, f"no {name}: {self.log()[-3000:]}"
            assert self.process is None or self.process.poll() is None, f"ended before {name}: {self.log()[-3000:]}"
            time.sleep(0.2)

    def reached(self) -> int:
        """Return the step of the training's newest checkpoint."""
        names = [path.stem for path in (self.project / RUN / "checkpoint").glob("step_*.safetensors")]
        return max((int(name.removeprefix("step_")) for name in names), default=0)

    def get_on(self) -> str:
        """Wait until the training runs and is past its present checkpoint; return its job's id."""
        before = self.reached()
        self.wait(lambda: self.reached() > before and self.running(), "new checkpoint")
        return self.running()

    def jobs(self) -> list[dict[str, str]]:
        """Return the SLURM jobs of the training in order of submission."""
        found = [job for job in self.cluster.jobs() if job.get("Comment", "").startswith("rule_train_")]
        return sorted(found, key=lambda job: int(job["JobId"]))

    def running(self) -> str:
        return next((job["JobId"] for job in self.jobs() if job["JobState"] == "RUNNING"), "")

    def node(self) -> str:
        return next(job["NodeList"] for job in self.jobs() if job["JobState"] == "RUNNING")

    def finish(self) -> None:
        """Wait for the workflow's good end."""
        assert self.process is not None
        assert self.process.wait(580) == 0, self.log()[-4000:]

    def lives(self) -> int:
        """Return in how many processes the training was done."""
        return int(str(slurm_runs.read_timing(self.project / RUN)["sessions"]))

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


def contents(project: Path) -> dict[str, bytes]:
    paths = [OTHER, *(RUN / name for name in RESULTS)]
    return {str(path): (project / path).read_bytes() for path in paths}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which everything is made but the targets."""
    project = copy_project(tmp_path_factory.mktemp("prepared") / "evomix")
    needed = [str(RUN / "spec.json"), "results/test/mechanisms/matrix_mixer/standard.certificate.json"]
    needed.append("results/test/mechanisms/coefficient_dynamics/standard.py")
    snakemake(project, *needed, "--profile", "profiles/local", *options(SHORT))
    return project


def in_peace(prepared: Path, folder: Path, steps: int) -> Path:
    """Make the targets locally with nothing happening."""
    shutil.copytree(prepared, folder / "evomix")
    snakemake(folder / "evomix", *TARGETS, "--profile", "profiles/local", *options(steps))
    return folder


@pytest.fixture(scope="module")
def expected_short(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return contents(in_peace(prepared, tmp_path_factory.mktemp("short"), SHORT) / "evomix")


@pytest.fixture(scope="module")
def peace_long(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return in_peace(prepared, tmp_path_factory.mktemp("long"), LONG)


@pytest.fixture
def scene(prepared: Path, tmp_path: Path) -> Iterator[Scene]:
    shutil.copytree(prepared, tmp_path / "evomix")
    with Cluster(tmp_path / "cluster") as cluster:
        scene = Scene(cluster, tmp_path / "evomix", SHORT)
        yield scene
        scene.stop()


def nothing_twice(scene: Scene) -> None:
    """The other job ran once; the training's jobs never overlapped, and only the last of them completed."""
    other = [job["JobState"] for job in scene.cluster.jobs() if job.get("Comment", "").startswith("rule_certify_")]
    assert other == ["COMPLETED"]
    jobs = scene.jobs()
    assert [job["JobState"] for job in jobs].count("COMPLETED") == 1
    assert jobs[-1]["JobState"] == "COMPLETED"
    for before, after in itertools.pairwise(jobs):
        assert before["EndTime"] <= after["StartTime"], "two jobs of one training ran at once"


def scancel(scene: Scene) -> str:
    job = scene.get_on()
    scene.command("scancel", job)
    scene.wait(lambda: scene.running() not in ("", job), "second job")
    return f"resubmitted as job {scene.running()}"


def restart_controller(scene: Scene) -> str:
    job = scene.get_on()
    scene.cluster.stop("slurmctld")
    time.sleep(3)
    scene.cluster.start_controller(clean=False)
    scene.wait(lambda: scene.get_on() == job, "progress")
    return "the job went on"


def restart_node_daemon(scene: Scene) -> str:
    job, node = scene.get_on(), scene.node()
    scene.cluster.stop(node, signal.SIGKILL)
    time.sleep(3)
    scene.cluster.start_node(node)
    scene.wait(lambda: scene.get_on() == job, "progress")
    return "the job went on"


def crash_node(scene: Scene) -> str:
    """Kill the daemon of the node and all that runs there; it comes back once SLURM has given up on it."""
    job, node = scene.get_on(), scene.node()
    steps = [item for item in psutil.process_iter() if item.name() == "slurmstepd"]
    mine = [item for item in steps if f"[{job}." in " ".join(item.cmdline())]
    doomed = [*mine, *(child for item in mine for child in item.children(recursive=True))]
    scene.cluster.stop(node, signal.SIGKILL)
    for item in doomed:
        if item.is_running():
            item.kill()
    scene.wait(lambda: any(item["JobId"] == job and item["JobState"] != "RUNNING" for item in scene.jobs()), "loss")
    scene.cluster.start_node(node)
    now = scene.get_on()
    return f"SLURM requeued job {now}" if now == job else f"resubmitted as job {now}"


def preempt(scene: Scene) -> str:
    """Jobs of a partition of higher priority take all nodes for some seconds."""
    job = scene.get_on()
    for _ in scene.cluster.nodes:
        scene.command("sbatch", "-p", "urgent", "--exclusive", "-N1", "-o", "/dev/null", "--wrap", "sleep 5")
    scene.wait(lambda: scene.running() != job, "preemption")
    step, now = scene.reached(), scene.get_on()
    assert now == job
    return f"SLURM requeued job {job}, resumed from step {step}"


def terminate_workflow(scene: Scene) -> str:
    job = scene.get_on()
    assert scene.process is not None
    scene.process.terminate()
    time.sleep(2)
    waits = scene.process.poll() is None
    scene.process.kill()
    scene.process.wait()
    return f"Snakemake {'waits for its jobs' if waits else 'ends'}; killed then, and " + _refuse_then_start(scene, job)


def kill_workflow(scene: Scene) -> str:
    job = scene.get_on()
    assert scene.process is not None
    os.killpg(scene.process.pid, signal.SIGKILL)
    scene.process.wait()
    return _refuse_then_start(scene, job)


def _refuse_then_start(scene: Scene, job: str) -> str:
    """A second start is refused while the job runs; once the job was cancelled, as it says, the workflow goes on."""
    snakemake(scene.project, "--unlock")
    status, said = slurm_runs.run(scene.cluster, scene.project, *TARGETS, *options(scene.steps))
    assert status != 0
    assert f"1 jobs of an earlier start in {scene.project} have not ended ({job})" in said
    assert scene.running() == job
    scene.command("scancel", job)
    scene.process = None
    scene.wait(lambda: not scene.cluster.squeue(), "end of the job")
    snakemake(scene.project, "--unlock")
    scene.start()
    scene.wait(lambda: scene.running() not in ("", job), "second job")
    return f"a start beside job {job} was refused; after scancel it went on as job {scene.running()}"


ROW: dict[str, Callable[[Scene], str]] = {
    "scancel of a running job": scancel,
    "controller restarted": restart_controller,
    "node daemon killed and back": restart_node_daemon,
    "preemption by a job of higher priority": preempt,
    "node lost with all its processes": crash_node,
    "workflow terminated (SIGTERM)": terminate_workflow,
    "workflow killed (SIGKILL)": kill_workflow,
}


@pytest.mark.slow
def test_a_row_of_faults_leaves_no_trace(scene: Scene, peace_long: Path) -> None:
    scene.steps = LONG
    scene.start()
    for fault, inject in ROW.items():
        tell(fault, inject(scene))
    scene.finish()
    assert contents(scene.project) == contents(peace_long / "evomix")
    nothing_twice(scene)
    tell("all of them", f"same bytes; {len(scene.jobs())} jobs, {scene.lives()} lives")


@pytest.mark.slow
def test_a_training_longer_than_the_limit_continues_over_several_jobs(scene: Scene, peace_long: Path) -> None:
    """The profile lets a job last about a third of what the training takes; SIGTERM makes the training save itself."""
    scene.steps = LONG
    seconds = float(str(slurm_runs.read_timing(peace_long / "evomix" / RUN)["seconds"]))
    longest = f"longest={max(1, int(seconds / 180))}"
    scene.start("--retries", "20", "--default-resources", "mem_mb=2000", "runtime=30", longest)
    scene.finish()
    states = [job["JobState"] for job in scene.jobs()]
    tell("node time limit", f"{longest} minutes; jobs: {', '.join(states)}; {scene.lives()} lives")
    assert contents(scene.project) == contents(peace_long / "evomix")
    nothing_twice(scene)
    assert len(states) >= 2
    assert set(states[:-1]) <= {"TIMEOUT", "FAILED"}
    assert scene.lives() == len(states)


def test_out_of_memory_is_tried_again_with_more(scene: Scene, expected_short: dict[str, bytes]) -> None:
    scene.start("--set-resources", "train:mem_mb=300 * 6 ** (attempt - 1)")
    scene.finish()
    asked = [(job["JobState"], job["MinMemoryNode"]) for job in scene.jobs()]
    tell("out of memory", " then ".join(f"{state} with {memory}" for state, memory in asked))
    assert contents(scene.project) == expected_short
    nothing_twice(scene)
    assert asked[0][1] == "300M"
    assert len(asked) == 2


@pytest.mark.slow
def test_full_disk_says_so_and_goes_on_once_there_is_room(scene: Scene, expected_short: dict[str, bytes]) -> None:
    """The run's folder is a small file system of its own, filled to the last byte for the first try."""
    run, spec = scene.project / RUN, (scene.project / RUN / "spec.json")
    content, times = spec.read_bytes(), (spec.stat().st_atime_ns, spec.stat().st_mtime_ns)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", run], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        spec.write_bytes(content)
        os.utime(spec, ns=times)
        subprocess.run(["dd", "if=/dev/zero", f"of={run / 'filler'}", "bs=4k"], capture_output=True, check=False)
        assert shutil.disk_usage(run).free == 0
        scene.start()
        scene.wait(lambda: any(job["JobState"] == "FAILED" for job in scene.jobs()), "failed job")
        (run / "filler").unlink()
        scene.finish()
        tell("full scratch disk", f"{len(scene.jobs()) - 1} failed tries, then COMPLETED")
        assert "No space left on device" in scene.log()
        assert contents(scene.project) == expected_short
        nothing_twice(scene)
    finally:
        subprocess.run(["umount", run], check=True)


def test_lost_and_corrupt_results_cost_what_they_must(scene: Scene, expected_short: dict[str, bytes]) -> None:
    """A deleted file comes back from what is kept; a corrupt one, deleted as its reader says, is made again."""
    scene.start()
    scene.finish()
    run = scene.project / RUN
    for fault, outcome in (("lost", "restored"), ("corrupt", "trained again")):
        before = (run / "timing.json").read_bytes()
        if fault == "corrupt":
            with (run / "summary.json").open("r+b") as stream:
                stream.write(b"#corrupt")
        (run / "summary.json").unlink()
        scene.start()
        scene.finish()
        tell(f"{fault} output file", outcome)
        assert ((run / "timing.json").read_bytes() == before) == (outcome == "restored")
        assert contents(scene.project) == expected_short
    assert [job["JobState"] for job in scene.jobs()] == ["COMPLETED"] * 3
    assert len([job for job in scene.cluster.jobs() if job.get("Comment", "").startswith("rule_certify_")]) == 1


def test_a_key_in_the_environment_stops_the_start(scene: Scene) -> None:
    status, said = slurm_runs.run(scene.cluster, scene.project, *TARGETS, *options(SHORT), EVOMIX_API_KEY="sk-secret")
    assert status != 0
    assert "EVOMIX_API_KEY is set, and a cluster's jobs inherit the environment" in said
    assert "sk-secret" not in said
    assert scene.cluster.jobs() == []
