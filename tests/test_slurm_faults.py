"""Faults on a real SLURM: whatever breaks, the same bytes come out, nothing finished is redone, nothing runs twice.

One training goes through a row of faults, each after it got on since the one before; another job of the same run is
finished by then and must stay as it is. Every fault tells in one line what happened (`pytest -s`).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import slurm_runs
from slurm_cluster import Cluster, missing_programs
from slurm_scene import LONG, RUN, SHORT, Scene, before, contents, in_peace, nothing_twice, options, tell
from workflow_runs import snakemake

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing_programs()), reason=f"SLURM is not installed: {', '.join(missing_programs())}"),
]


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return in_peace(tmp_path_factory.mktemp("short"), SHORT)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return in_peace(tmp_path_factory.mktemp("long"), LONG)


@contextmanager
def staged(finished: Path, folder: Path, steps: int) -> Iterator[Scene]:
    with Cluster(folder / "cluster") as cluster:
        scene = Scene(cluster, before(finished, folder), steps)
        yield scene
        scene.stop()


@pytest.fixture
def scene(short: Path, tmp_path: Path) -> Iterator[Scene]:
    with staged(short, tmp_path, SHORT) as scene:
        yield scene


@pytest.fixture
def long_scene(long: Path, tmp_path: Path) -> Iterator[Scene]:
    with staged(long, tmp_path, LONG) as scene:
        yield scene


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
    doomed = scene.processes(job)
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
    status, said = slurm_runs.run(scene.cluster, scene.project, *scene.targets, *options(scene.steps))
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
def test_a_row_of_faults_leaves_no_trace(long_scene: Scene, long: Path) -> None:
    long_scene.start()
    for fault, inject in ROW.items():
        began = time.monotonic()
        outcome = inject(long_scene)
        tell(fault, f"{outcome}; {time.monotonic() - began:.0f} s")
    long_scene.finish()
    assert contents(long_scene.project) == contents(long)
    nothing_twice(long_scene)
    states = ", ".join(f"{job['JobState']} after {job['Restarts']} requeues" for job in long_scene.jobs())
    tell("all of them", f"same bytes; jobs: {states}; {long_scene.lives()} lives")


@pytest.mark.slow
def test_a_training_longer_than_the_limit_continues_over_several_jobs(long_scene: Scene, long: Path) -> None:
    """The profile lets a job last about a third of what the training takes; SIGTERM makes the training save itself."""
    seconds = float(str(slurm_runs.read_timing(long / RUN)["seconds"]))
    longest = f"longest={max(1, int(seconds / 180))}"
    long_scene.start("--retries", "20", "--default-resources", "mem_mb=2000", "runtime=30", longest)
    long_scene.finish()
    states = [job["JobState"] for job in long_scene.jobs()]
    tell("node time limit", f"{longest} minutes; jobs: {', '.join(states)}; {long_scene.lives()} lives")
    assert contents(long_scene.project) == contents(long)
    nothing_twice(long_scene)
    assert len(states) >= 2
    assert set(states[:-1]) <= {"TIMEOUT", "FAILED"}
    assert long_scene.lives() == len(states)


def test_out_of_memory_is_tried_again_with_more(scene: Scene, short: Path) -> None:
    scene.start("--set-resources", "train:mem_mb=300 * 6 ** (attempt - 1)")
    scene.finish()
    asked = [(job["JobState"], job["MinMemoryNode"]) for job in scene.jobs()]
    tell("out of memory", " then ".join(f"{state} with {memory}" for state, memory in asked))
    assert contents(scene.project) == contents(short)
    nothing_twice(scene)
    assert asked[0][1] == "300M"
    assert len(asked) == 2


@pytest.mark.slow
def test_full_disk_says_so_and_goes_on_once_there_is_room(scene: Scene, short: Path) -> None:
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
        assert contents(scene.project) == contents(short)
        nothing_twice(scene)
    finally:
        subprocess.run(["umount", run], check=True)


def test_lost_and_corrupt_results_cost_what_they_must(scene: Scene, short: Path) -> None:
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
        assert contents(scene.project) == contents(short)
    assert [job["JobState"] for job in scene.jobs()] == ["COMPLETED"] * 3
    assert len(scene.jobs("certify")) == 1
