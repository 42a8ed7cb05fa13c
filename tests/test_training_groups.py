"""A job of several threads trains runs side by side: the same bytes as one by one, whoever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from evomix.artifacts import read_json
from evomix.errors import UserError
from evomix.specs import write_spec
from evomix.training import engine
from evomix.training.groups import processes
from evomix.training.preemption import EXIT_CODE
from training_study import make_spec, write_corpus, write_mechanism

FAILED = 3
DRIVER = f"""
import sys
from pathlib import Path
from evomix.specs import RunSpec, read_spec
from evomix.training.contained import RunError, train_all_contained
try:
    train_all_contained([(read_spec(folder / "spec.json", RunSpec), folder) for folder in map(Path, sys.argv[1:])])
except RunError:
    sys.exit({FAILED})
"""


@pytest.fixture(scope="module")
def stats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def start(folders: list[Path], threads: int) -> subprocess.Popen[bytes]:
    """Train the runs of `folders` in a job of `threads` threads."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen([sys.executable, "-c", DRIVER, *map(str, folders)], env=environment)


def wait_for(folder: Path, pattern: str) -> None:
    """Return as soon as a file of a run is there."""
    deadline = time.monotonic() + 300
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def same(folder: Path, reference: Path) -> bool:
    names = ("summary.json", "curve.parquet", "model.safetensors")
    return all((folder / name).read_bytes() == (reference / name).read_bytes() for name in names)


def prepare(stats: Path, tmp_path: Path, runs: int, mechanism: Path | None = None, steps: int = 300) -> list[Path]:
    """Write specs below `tmp_path`/run_*, train each alone into `tmp_path`/alone_*, and return the former."""
    folders = [tmp_path / f"run_{seed}" for seed in range(runs)]
    for seed, folder in enumerate(folders):
        spec = make_spec(stats, mechanism, seed=seed, steps=steps, every=100)
        write_spec(folder / "spec.json", spec)
        engine.train(spec, tmp_path / f"alone_{seed}")
    return folders


def test_a_job_has_as_many_processes_as_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads, each, expected in (("1", "1", 1), ("4", "1", 4), ("4", "2", 2), ("2", "4", 1), ("16", "1", 10)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        monkeypatch.setenv("EVOMIX_THREADS", each)
        assert processes(10) == expected
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert processes(10) == 1
    monkeypatch.setenv("EVOMIX_THREADS", "0")
    with pytest.raises(UserError, match="EVOMIX_THREADS is '0'"):
        processes(10)


def test_one_killed_process_leaves_the_other_alone_and_its_run_resumes(stats: Path, tmp_path: Path) -> None:
    folders = prepare(stats, tmp_path, 2)
    job = start(folders, threads=2)
    wait_for(folders[0], "checkpoint/step_*")
    psutil.Process(job.pid).children()[0].kill()
    assert job.wait() == FAILED
    assert not (folders[0] / "summary.json").exists()
    assert same(folders[1], tmp_path / "alone_1")
    assert read_json(folders[1] / "timing.json", "timing")["why"] == "one of 2 processes: fewer than 4 runs"
    assert start(folders, threads=1).wait() == 0
    assert same(folders[0], tmp_path / "alone_0")
    timing = read_json(folders[0] / "timing.json", "timing")
    assert (timing["sessions"], timing["why"], timing["tier"]) == (2, "fewer than 4 runs", "eager")


@pytest.mark.slow
def test_a_preempted_job_saves_every_run_and_asks_to_be_started_again(stats: Path, tmp_path: Path) -> None:
    folders = prepare(stats, tmp_path, 2, steps=600)
    job = start(folders, threads=2)
    for folder in folders:
        wait_for(folder, "checkpoint/step_*")
    job.send_signal(signal.SIGTERM)
    assert job.wait() == EXIT_CODE
    assert not any((folder / "summary.json").exists() for folder in folders)
    assert start(folders, threads=2).wait() == 0
    for seed, folder in enumerate(folders):
        assert same(folder, tmp_path / f"alone_{seed}")
        assert read_json(folder / "timing.json", "timing")["sessions"] == 2


@pytest.mark.slow
def test_runs_that_cannot_be_stacked_share_the_job(stats: Path, tmp_path: Path) -> None:
    """A mechanism that `vmap` refuses: four runs in two processes, which say why; a kill of the job takes all along."""
    line = "v_BHTP = v_BHTP * (1.0 if v_BHTP.abs().mean().item() < 1e9 else 2.0)"
    folders = prepare(stats, tmp_path, 4, write_mechanism(tmp_path / "item.py", line))
    job = start(folders, threads=2)
    wait_for(folders[1], "checkpoint/step_*")
    family = psutil.Process(job.pid).children(recursive=True)
    assert len(family) == 4
    job.kill()
    job.wait()
    psutil.wait_procs(family, timeout=60)
    assert not any(process.is_running() for process in family)
    assert start(folders, threads=2).wait() == 0
    for seed, folder in enumerate(folders):
        assert same(folder, tmp_path / f"alone_{seed}")
    why = read_json(folders[3] / "timing.json", "timing")["why"]
    assert why.startswith("one of 2 processes: it cannot be stacked (")


@pytest.mark.slow
def test_a_stack_killed_while_it_wrote_its_results_is_finished_as_that_stack(stats: Path, tmp_path: Path) -> None:
    """Three of four runs left would round differently: what reaches the sandbox is the whole group."""
    folders = [tmp_path / f"run_{seed}" for seed in range(4)]
    for seed, folder in enumerate(folders):
        write_spec(folder / "spec.json", make_spec(stats, seed=seed, steps=300))
    assert start(folders, threads=1).wait() == 0
    whole = {folder: (folder / "model.safetensors").read_bytes() for folder in folders}
    for folder in folders:
        for path in folder.glob("[!s]*"):
            path.unlink()
        (folder / "summary.json").unlink()
    job = start(folders, threads=1)
    wait_for(folders[0], "summary.json")
    psutil.Process(job.pid).children()[0].kill()
    job.wait()
    assert start(folders, threads=1).wait() == 0
    assert {folder: (folder / "model.safetensors").read_bytes() for folder in folders} == whole
