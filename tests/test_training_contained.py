"""Which processes carry out runs, and with what: the sandbox is watched, and what ran in it is answered for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from evomix.gate.sandbox import SandboxResult
from evomix.specs import RunSpec
from evomix.training import compiling, contained
from evomix.training.contained import RunError, train_all_contained
from training_study import make_spec, write_corpus

Runs = list[tuple[RunSpec, Path]]


class Watched:
    """Stands where the sandbox does: notes the command lines, and answers with given statuses, then 0."""

    def __init__(self, statuses: Sequence[int] = ()) -> None:
        self.statuses = list(statuses)
        self.commands: list[list[str]] = []
        self.gpu: list[bool] = []

    def __call__(self, arguments: Sequence[str], *, gpu: bool, **rest: object) -> SandboxResult:
        self.commands.append([Path(part).name if part.startswith("/") else part for part in arguments[3:]])
        self.gpu.append(gpu)
        return SandboxResult(self.statuses.pop(0) if self.statuses else 0, {}, 0.0, 0, None, b"", b"CUDA error: assert")


@pytest.fixture(scope="module")
def stats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def runs(stats: Path, folder: Path, count: int, **changes: object) -> Runs:
    changes = {"device": "cuda", "precision": "bfloat16", "steps": 2_000, **changes}
    return [(make_spec(stats, seed=seed, **changes), folder / f"run_{seed}") for seed in range(count)]


def watch(monkeypatch: pytest.MonkeyPatch, statuses: Sequence[int] = ()) -> Watched:
    watched = Watched(statuses)

    def compiled_step(given: Runs, readable: Sequence[Path], folder: Path) -> compiling.Step:
        return compiling.Step(folder, f"for {len(given)}")

    monkeypatch.setattr(contained.sandbox, "run", watched)
    monkeypatch.setattr(compiling, "compiled_step", compiled_step)
    monkeypatch.setattr(contained, "finished_summary", lambda spec, folder: {} if watched.commands else None)
    return watched


def test_on_a_gpu_a_run_has_a_compiled_step_and_a_process_of_its_own(
    stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watch(monkeypatch)
    train_all_contained(runs(stats, tmp_path, 3))
    compiled = ["--compiled", "compiled", "--origin", "for 1"]
    assert watched.commands == [[*compiled, f"run_{seed}"] for seed in range(3)]
    assert watched.gpu == [True] * 3


def test_on_a_gpu_a_finished_run_gets_no_process(stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = watch(monkeypatch)
    monkeypatch.setattr(
        contained, "finished_summary", lambda spec, folder: {} if watched.commands or spec.seed == 0 else None
    )
    train_all_contained(runs(stats, tmp_path, 3))
    assert [command[-1] for command in watched.commands] == ["run_1", "run_2"]


def test_on_a_gpu_runs_that_may_be_stacked_share_one(
    stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watch(monkeypatch)
    train_all_contained(runs(stats, tmp_path, 4))
    assert watched.commands == [["--compiled", "compiled", "--origin", "for 4", *(f"run_{seed}" for seed in range(4))]]


def test_a_process_that_a_compiled_step_broke_is_started_again_without(
    stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watched = watch(monkeypatch, [1])
    train_all_contained(runs(stats, tmp_path, 1))
    assert watched.commands == [["--compiled", "compiled", "--origin", "for 1", "run_0"], ["run_0"]]
    assert "failed with its compiled step (CUDA error: assert); once more without" in caplog.text


def test_a_run_that_fails_without_a_compiled_step_has_failed(
    stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for statuses in ([1, 1], [-11, 1]):
        watch(monkeypatch, statuses)
        with pytest.raises(RunError, match="CUDA error: assert"):
            train_all_contained(runs(stats, tmp_path, 1))
    watched = watch(monkeypatch, [1])
    with pytest.raises(RunError, match="CUDA error: assert"):
        train_all_contained(runs(stats, tmp_path, 1, device="cpu", precision="float32"))
    assert len(watched.commands) == 1
