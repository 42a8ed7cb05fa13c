"""A run costs the same memory and work per step however many steps it has: nothing grows but a bounded curve."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.paired import peak_bytes
from evomix.specs import RunSpec
from evomix.training import engine
from evomix.training.record import CURVE_ROWS, Record
from training_study import make_spec, write_corpus

STEPS = (300, 3_000)


@pytest.fixture(scope="module")
def stats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def small(stats: Path, steps: int) -> RunSpec:
    """Return the cheapest run, with as many evaluations and checkpoints as a run of any length has."""
    spec = make_spec(stats, steps=steps, every=steps // 10, batch_size=2, checkpoint_every=steps // 4, rows=4)
    shape = spec.architecture.model_copy(update={"width": 4, "layers": 1, "heads": 1, "sequence_length": 8})
    return spec.model_copy(update={"architecture": shape})


@pytest.mark.slow
def test_memory_is_flat_in_the_number_of_steps(stats: Path, tmp_path: Path) -> None:
    engine.train(small(stats, 20), tmp_path / "warm")  # what the first run of a process loads stays out of the account
    short, long = (peak_bytes(partial(engine.train, small(stats, steps), tmp_path / str(steps))) for steps in STEPS)
    assert long < short + 4 * 2**20


@contextmanager
def counting_calls(counts: list[int]) -> Iterator[None]:
    """Append the number of Python and C functions called inside."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)
    counts.append(calls)


def test_work_and_objects_per_step_are_flat(stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 50 steps, early and late: as many calls, as many live tensors, and a checkpoint of the same size."""
    calls: list[int] = []
    tensors: list[tuple[int, int]] = []
    original = engine.Session.advance

    def advance(self: engine.Session, stop: Any) -> None:
        if self.finished not in (100, 1_000):
            original(self, stop)
            return
        with counting_calls(calls):
            original(self, stop)
        gc.collect()
        alive = [item for item in gc.get_objects() if type(item) is torch.Tensor]
        tensors.append((len(alive), sum(item.nbytes for item in alive)))

    monkeypatch.setattr(engine.Session, "advance", advance)
    spec = small(stats, 100_000)
    measurement = spec.measurement.model_copy(update={"every": 600})
    execution = spec.execution.model_copy(update={"checkpoint_every": 600})
    spec = spec.model_copy(update={"measurement": measurement, "execution": execution})
    engine.train_until(spec, tmp_path, 1_200)
    sizes = [path.stat().st_size for path in sorted((tmp_path / "checkpoint").glob("step_*"))]
    assert len(calls) == len(tensors) == len(sizes) == 2
    assert calls[1] == pytest.approx(calls[0], rel=0.01)
    assert tensors[1] == tensors[0]
    assert abs(sizes[0] - sizes[1]) < 200 * 600 // 50  # one row of the curve for every 50 steps


@pytest.mark.parametrize("steps", [10_000, 1_000_000])
def test_what_a_record_keeps_does_not_grow_with_the_length_of_the_run(steps: int) -> None:
    """As many rows for any length: a run far longer fills no more of them, whatever part of it has been done."""
    record = Record(steps)
    record.add_evaluation(4.0)
    for _ in range(10_000):
        record.add_step(3.0, 1.0, 1e-3)
    assert len(record.rows) == 1 + 10_000 // record.stride
    assert record.steps / record.stride <= CURVE_ROWS
    assert len(record.window) <= 50
    assert len(record.pending) <= record.stride
    assert len(json.dumps(record.state())) < 200_000
