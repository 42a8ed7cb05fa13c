"""The GPU's ways on a machine without one: they stand aside, and the ladder takes none that fails or differs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conftest import ROOT
from evomix.corpus.tokens import TokenRows
from evomix.mechanisms import library
from evomix.model.transformer import Transformer
from evomix.specs import Execution, Optimisation
from evomix.training.graph import Tier, capture, climb, compare
from evomix.training.inputs import cut, resident_rows
from evomix.training.trainer import Trainer
from training_study import architecture, write_corpus


def build(rate: float = 1e-2) -> Trainer:
    optimisation = Optimisation(steps=10, batch_size=2, learning_rate=rate, warmup_steps=0, weight_decay=0.1, clip=1.0)
    execution = Execution.model_validate({"device": "cpu", "precision": "float32", "checkpoint_every": 10})
    return Trainer(
        Transformer(architecture(), library.load(library.standard("matrix_mixer")), 1), optimisation, execution, 1
    )


def test_the_state_holds_on_to_no_graph() -> None:
    """A clone of a parameter that asks for gradients keeps a node alive, which spoils the capture of the next step."""
    assert not any(value.requires_grad for value in build().tensors().values())


@pytest.fixture
def tokens() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(61, (2, 17), generator=generator) for _ in range(2)]


def test_without_a_gpu_nothing_is_captured(tokens: list[torch.Tensor]) -> None:
    trainer = build()
    before = {key: value.clone() for key, value in trainer.tensors().items()}
    assert capture(trainer, tokens) is trainer
    assert all(torch.equal(value, before[key]) for key, value in trainer.tensors().items())


def test_comparison_tells_equal_from_different(tokens: list[torch.Tensor]) -> None:
    first, second = build(), build()
    state = {key: value.clone() for key, value in first.tensors().items()}
    assert compare(first, second, tokens, state) is None
    assert compare(first, build(rate=2e-1), tokens, state) == "step 2 differs from the eager one"


def failing() -> Trainer:
    try:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")
    finally:
        raise ValueError("the capture failed")


def test_ladder_takes_the_first_way_that_works_and_is_equal(
    tokens: list[torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    trainer, right = build(), build()
    before = {key: value.clone() for key, value in trainer.tensors().items()}
    ladder = [Tier("one", failing), Tier("two", lambda: build(rate=2e-1)), Tier("three", lambda: right)]
    assert climb(ladder, trainer, tokens) is right
    assert [record.message for record in caplog.records] == [
        "steps are not taken by one (RuntimeError: operation not permitted when stream is capturing)",
        "steps are not taken by two (step 2 differs from the eager one)",
    ]
    assert climb(ladder[:2], trainer, tokens) is trainer
    assert all(torch.equal(value, before[key]) for key, value in trainer.tensors().items())


def test_rows_on_the_device_are_the_rows_of_the_file(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path, vocabulary=60_000).parent  # ids above 2**15 must survive the signed detour
    rows, indices = TokenRows(folder, "train", 16), torch.tensor([0, 7, 300])
    windows = resident_rows(rows, torch.device("cpu"))
    assert windows.shape == (len(rows), 17)
    assert torch.equal(cut(windows, indices), torch.from_numpy(rows.read(indices.numpy())))
    assert int(cut(windows, indices).max()) > 2**15
    again = resident_rows(TokenRows(folder, "train", 16), torch.device("cpu"))
    assert again.data_ptr() == windows.data_ptr()


@pytest.mark.slow
def test_the_benchmark_for_a_gpu_is_ready(tmp_path: Path) -> None:
    """Its rehearsal on a CPU goes through every size to the last line, and compiles a step."""
    command = [sys.executable, "gpu.py", "--device", "cpu", "--tiny", "--steps", "2", "--runs", "2"]
    cache = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    for more, compiled in ((["--compiled", ""], 0), (["--sizes", "0.5M", "--compiled", "1"], 1)):
        done = subprocess.run(
            [*command, *more], cwd=ROOT / "tests/benchmarks", capture_output=True, text=True, check=True, env=cache
        )
        assert done.stdout.count("(eager)") == done.stdout.count("(stacked, eager)") + 1
        assert done.stdout.count("(stacked, compiled)") == compiled, done.stdout
        assert done.stdout.splitlines()[-1].startswith("deterministic at ")
