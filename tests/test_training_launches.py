"""What a compiled step launches, recorded as data: done again on other memory it is the step. On a CPU every launch is
an operation of torch's library; a GPU's kernels are recorded in `test_training_gpu`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from evomix.training import compiled, launches, portable
from evomix.training.compiled import Compiled
from evomix.training.launches import Replay, record
from evomix.training.stack import Stack
from test_training_compiled import BATCHES, STANDARD, curves
from test_training_ensemble import RUNS, make_trainers

CPU = torch.device("cpu")


def test_a_recorded_step_is_the_step(tmp_path: Path) -> None:
    """Recorded on zeros, replayed as forty steps in float64, dropout on; memory of finished tensors is used again."""
    compiled.trace(Stack(make_trainers(STANDARD, torch.float64)), BATCHES[0], tmp_path)
    module, inputs = portable.read((tmp_path / compiled.GRAPH).read_text())
    record(lambda: module, inputs, tmp_path / "step")
    stepper = Compiled.__new__(Compiled)
    stepper.stack, stepper.captured = Stack(make_trainers(STANDARD, torch.float64)), []
    stepper.runner = Replay(tmp_path / "step", CPU)
    assert len(stepper.runner.regions) < len(stepper.runner.launches)
    ours, theirs = curves(stepper, make_trainers(STANDARD, torch.float64))
    assert (ours - theirs).abs().max() < 1e-10
    assert len(set(ours[-1, 0].tolist())) == RUNS


def test_inputs_may_be_views_and_results_are_those_of_the_last_call(tmp_path: Path) -> None:
    def function(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        return [x[1:] * 2 + y.t(), torch.bmm(x[None], y[None]).sum()]

    record(lambda: function, given(0), tmp_path / "x")
    replay = Replay(tmp_path / "x", CPU)
    for seed in (1, 2):
        wanted, found = function(*given(seed)), replay.run(given(seed))
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))


def given(seed: int) -> list[torch.Tensor]:
    """Return inputs, of which the second is a view behind an offset."""
    values = torch.rand(5, 2, generator=torch.Generator().manual_seed(seed))
    return [values[:3].clone(), values[3:]]


def moody() -> Callable[[torch.Tensor], list[torch.Tensor]]:
    """Return a function that computes something else at every call."""
    calls: list[int] = []

    def function(x: torch.Tensor) -> list[torch.Tensor]:
        calls.append(1)
        return [x + len(calls)]

    return function


def choosy(x: torch.Tensor) -> list[torch.Tensor]:
    """Launch by the values of `x`."""
    return [x * 2 if x.sum() == 0 else x * 3]


@pytest.mark.parametrize("make", [moody, lambda: choosy])
def test_a_step_that_a_replay_does_not_repeat_is_refused(
    make: Callable[[], Callable[..., list[torch.Tensor]]], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="do not repeat the compiled step"):
        record(make, [torch.zeros(4)], tmp_path / "x")


def test_a_forgotten_launch_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = launches._placed

    def forgetful(value: object, *rest: object) -> object:
        placed = whole(value, *rest)  # type: ignore[arg-type]
        return placed[1:] if isinstance(value, list) and value and "operation" in str(value[0])[:14] else placed

    monkeypatch.setattr(launches, "_placed", forgetful)
    with pytest.raises(ValueError, match="do not repeat"):
        record(lambda: lambda x: [(x + 1) * 2], [torch.zeros(4)], tmp_path / "x")


def test_an_argument_that_is_no_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="an argument of type str"):
        record(lambda: lambda x: [torch.nn.functional.gelu(x, approximate="tanh")], [torch.zeros(4)], tmp_path / "x")
