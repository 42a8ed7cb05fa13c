"""A run that was killed, preempted or found a damaged checkpoint ends with the same bytes as one that was not."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomix.artifacts import read_json
from evomix.errors import UserError
from evomix.settings import Sandbox
from evomix.specs import RunSpec, write_spec
from evomix.training import checkpoint, engine, trainer
from evomix.training.compiled import GRAPH, trace
from evomix.training.compiling import fetch_library
from evomix.training.preemption import EXIT_CODE
from evomix.training.stack import Stack
from evomix.training.step_times import Work
from training_study import EXECUTION, make_spec, write_corpus

RESULTS = ["summary.json", "curve.parquet", "model.safetensors"]
KILLER = Path(__file__).with_name("training_killer.py")


@pytest.fixture(scope="module")
def stats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def same_results(folder: Path, reference: Path) -> None:
    for name in RESULTS:
        assert (folder / name).read_bytes() == (reference / name).read_bytes(), name
    kept = {path.name for path in folder.iterdir()} - {"spec.json"}
    assert kept == {*RESULTS, "timing.json"}


def interrupt_after(spec: RunSpec, folder: Path, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train and raise SIGTERM in this process while step `steps` is running."""
    original = trainer.Trainer.step

    def step(self: trainer.Trainer, number: int, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if number == steps - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, number, tokens)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "step", step)
        with pytest.raises(SystemExit) as stopped:
            engine.train(spec, folder)
    assert stopped.value.code == EXIT_CODE


def kill(
    stats: Path, tmp_path: Path, lives: int, seconds: float, runs: int = 1, way: str = "", **changes: int
) -> tuple[list[int], int]:
    """Kill a run; return the exit statuses of its lives and how many different checkpoints they left behind."""
    changes = {"steps": 200, "checkpoint_every": 7, "every": 20, **changes}
    specs = [make_spec(stats, seed=seed, **changes) for seed in range(runs)]
    for seed, spec in enumerate(specs):
        write_spec(tmp_path / f"specs/run_{seed}.json", spec)
    command = [sys.executable, str(KILLER), str(tmp_path / "specs"), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "1", str(lives), str(seconds), way], env=environment, capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    for seed in range(runs):
        same_results(tmp_path / f"killed/run_{seed}", tmp_path / f"whole/run_{seed}")
    print(f"{runs} runs {way}: lives ended with {Counter(told['statuses'])}, {len(set(told['reached']))} checkpoints")
    return told["statuses"], len(set(told["reached"]))


def test_kills_at_random_moments_leave_no_trace(stats: Path, tmp_path: Path) -> None:
    statuses, places = kill(stats, tmp_path, lives=6, seconds=0.6)
    assert places >= 2
    assert statuses[-1] == 0
    assert -signal.SIGKILL in statuses
    assert set(statuses) <= {0, -signal.SIGKILL, -signal.SIGTERM, EXIT_CODE}


@pytest.mark.slow
def test_twenty_kills_of_a_stack_leave_no_trace(stats: Path, tmp_path: Path) -> None:
    statuses, places = kill(stats, tmp_path, lives=40, seconds=1.2, runs=4, steps=1600)
    assert len(statuses) >= 20
    assert places >= 6


@pytest.mark.slow
def test_twenty_kills_of_a_compiled_stack_leave_no_trace(stats: Path, tmp_path: Path) -> None:
    specs = [make_spec(stats, seed=seed) for seed in range(4)]
    (place := tmp_path / "compiled").mkdir()
    ready = [engine.prepare(spec)[:2] for spec in specs]
    trace(Stack([each for each, _ in ready]), torch.stack([batches.read(0) for _, batches in ready]), place)
    fetch_library((place / GRAPH).read_text(), "/usr/bin/g++", Sandbox(), EXECUTION, place)
    statuses, places = kill(stats, tmp_path, lives=40, seconds=1.0, runs=4, way=str(place), steps=6000, every=500)
    assert read_json(tmp_path / "killed/run_0/timing.json", "timing")["tier"] == "stacked, compiled"
    assert len(statuses) >= 20
    assert places >= 6


@pytest.mark.slow
def test_twenty_kills_of_processes_side_by_side_leave_no_trace(stats: Path, tmp_path: Path) -> None:
    statuses, places = kill(stats, tmp_path, lives=40, seconds=1.2, runs=2, way="processes", steps=2000)
    assert len(statuses) >= 20
    assert places >= 6


@pytest.mark.slow
def test_thirty_kills_at_random_moments_leave_no_trace(stats: Path, tmp_path: Path) -> None:
    statuses, places = kill(stats, tmp_path, lives=60, seconds=0.5, steps=2000)
    assert places >= 8
    assert len(statuses) >= 20
    assert statuses.count(-signal.SIGKILL) >= 13
    assert EXIT_CODE in statuses


@pytest.mark.parametrize("steps", [3, 10, 15, 40])
def test_preemption_saves_and_resumes_bit_for_bit(
    steps: int, stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(stats)
    engine.train(spec, tmp_path / "whole")
    interrupt_after(spec, tmp_path / "stopped", steps, monkeypatch)
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == ["checkpoint"]
    engine.train(spec, tmp_path / "stopped")
    same_results(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize("key", ["generator.dropout", "optimizer.mean", "model.final_norm.weight"])
def test_every_tensor_of_a_checkpoint_counts(
    key: str, stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forgetting one generator or moment must show: the comparison of bytes is able to fail."""
    spec = make_spec(stats)
    engine.train(spec, tmp_path / "whole")
    interrupt_after(spec, tmp_path / "stopped", 22, monkeypatch)
    original = trainer.Trainer.load_tensors

    def forgetful(self: trainer.Trainer, state: dict[str, torch.Tensor]) -> None:
        original(self, {**state, key: self.tensors().get(key, torch.zeros_like(state[key])).clone()})

    monkeypatch.setattr(engine.Trainer, "load_tensors", forgetful)
    monkeypatch.setattr(engine.Trainer, "work", lambda self, tokens: Work(0, 0, 0.0))
    engine.train(spec, tmp_path / "stopped")
    assert (tmp_path / "stopped/curve.parquet").read_bytes() != (tmp_path / "whole/curve.parquet").read_bytes()


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "flipped":
        content[-100] ^= 1
    elif how == "empty":
        content = bytearray()
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "flipped", "empty"])
def test_damaged_checkpoint_falls_back_to_the_one_before(
    how: str, stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = make_spec(stats)
    engine.train(spec, tmp_path / "whole")
    folder = tmp_path / "stopped"
    interrupt_after(spec, folder, 35, monkeypatch)
    newest, previous = sorted((folder / "checkpoint").iterdir(), reverse=True)
    assert (newest.name, previous.name) == ("step_000000035.safetensors", "step_000000030.safetensors")
    damage(newest, how)
    with caplog.at_level(logging.INFO):
        engine.train(spec, folder)
    assert "is damaged" in caplog.text
    assert "at step 30" in caplog.text
    same_results(folder, tmp_path / "whole")


def test_both_checkpoints_damaged_is_a_clear_error(
    stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(stats)
    interrupt_after(spec, tmp_path, 35, monkeypatch)
    for path in (tmp_path / "checkpoint").iterdir():
        damage(path, "truncated")
    with pytest.raises(UserError, match=r"no readable checkpoint in .*checkpoint; delete the folder"):
        engine.train(spec, tmp_path)


def test_checkpoint_of_another_spec_is_not_used(
    stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    changed = make_spec(stats, learning_rate=1e-3)
    engine.train(changed, tmp_path / "whole")
    interrupt_after(make_spec(stats), tmp_path / "stopped", 22, monkeypatch)
    engine.train(changed, tmp_path / "stopped")
    assert "another spec" in caplog.text
    same_results(tmp_path / "stopped", tmp_path / "whole")


def test_checkpoint_that_is_not_ours_is_damaged(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "none") is None
    checkpoint.save(tmp_path, 1, {"a": torch.arange(3)}, {"x": [1.5, float("nan")]})
    tensors, state = checkpoint.load(tmp_path) or ({}, {})
    assert tensors["a"].tolist() == [0, 1, 2]
    assert state["x"][0] == 1.5
    save_file(load_file(tmp_path / "step_000000001.safetensors"), tmp_path / "step_000000002.safetensors")
    assert (checkpoint.load(tmp_path) or ({}, {}))[1]["x"][0] == 1.5
    checkpoint.clear(tmp_path)
    assert not tmp_path.exists()
