"""Stacked runs are the runs: equal to each alone, resumable, and refused where stacking fails or would be wrong."""

from __future__ import annotations

import logging
import os
import random
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evomix.artifacts import read_json
from evomix.mechanisms import library
from evomix.model.transformer import Transformer
from evomix.specs import Execution, Optimisation
from evomix.streams import torch_stream
from evomix.training import engine, ensemble
from evomix.training.ensemble import train_many
from evomix.training.stack import Stack
from evomix.training.trainer import Trainer
from training_study import architecture, make_spec, write_corpus, write_mechanism

RUNS = 4
MEMBERS = [(framework, member) for framework in library.FRAMEWORKS for member in library.gallery(framework)]


@pytest.fixture(scope="module")
def stats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def make_trainers(path: Path, dtype: torch.dtype, layers: int = 2) -> list[Trainer]:
    """Return runs that differ in seed, learning rate, warm-up and weight decay."""
    execution = Execution.model_validate({"device": "cpu", "precision": "float32", "checkpoint_every": 10})
    trainers = []
    for run in range(RUNS):
        optimisation = Optimisation(
            steps=40, batch_size=3, learning_rate=1e-3 * (run + 1), warmup_steps=run, weight_decay=0.1 * run, clip=0.5
        )
        model = Transformer(architecture(layers=layers), library.load(path), seed=run).to(dtype)
        trainers.append(Trainer(model, optimisation, execution, seed=run))
    return trainers


def curves(path: Path, dtype: torch.dtype, steps: int) -> tuple[list[list[float]], list[list[float]]]:
    """Return the loss curves (steps, R) of stacked runs and of the same runs alone, dropout on."""
    generator = torch_stream(2, "tokens")
    batches = [torch.randint(61, (RUNS, 3, 17), generator=generator) for _ in range(steps)]
    stack = Stack(make_trainers(path, dtype))
    stacked = [stack.step(step, tokens)[0].tolist() for step, tokens in enumerate(batches)]
    trainers = make_trainers(path, dtype)
    alone = [
        [trainer.step(step, tokens[run])[0].item() for run, trainer in enumerate(trainers)]
        for step, tokens in enumerate(batches)
    ]
    return stacked, alone


@pytest.mark.parametrize(
    ("framework", "dtype", "tolerance"),
    [
        ("coefficient_dynamics", torch.float64, 1e-10),
        ("test_time_regression", torch.float64, 1e-10),
        ("matrix_mixer", torch.float32, 1e-4),
    ],
)
def test_stacked_standard_equals_runs_alone(framework: str, dtype: torch.dtype, tolerance: float) -> None:
    stacked, alone = curves(library.standard(framework), dtype, 40)
    assert torch.tensor(stacked) == pytest.approx(torch.tensor(alone), abs=tolerance)
    assert len(set(alone[-1])) == RUNS


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "member"), MEMBERS)
def test_every_member_is_stacked_exactly_or_refused(framework: str, member: str) -> None:
    try:
        stacked, alone = curves(library.gallery(framework)[member], torch.float64, 20)
    except RuntimeError:
        return  # refused: such runs go one after another
    assert torch.tensor(stacked) == pytest.approx(torch.tensor(alone), abs=1e-10)


def test_train_many_gives_the_results_of_train(stats: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    specs = [make_spec(stats, seed=seed, learning_rate=1e-3 * (1 + seed)) for seed in range(RUNS)]
    with caplog.at_level(logging.INFO):
        many = train_many(specs, [tmp_path / f"many_{seed}" for seed in range(RUNS)])
    assert f"stacked, eager: {RUNS} runs of 40 steps, a step and run expected to take" in caplog.text
    assert "a step and run took" in caplog.text
    for seed, spec in enumerate(specs):
        alone = engine.train(spec, tmp_path / f"alone_{seed}")
        ours = many[seed]
        assert ours["loss"] == pytest.approx(alone["loss"], abs=1e-4)
        skipped = {"loss", "bits_per_byte", "subset", "steps_to_90", "largest_gradient_norm"}
        assert {key: ours[key] for key in ours.keys() - skipped} == {key: alone[key] for key in alone.keys() - skipped}
    with caplog.at_level(logging.INFO):
        assert train_many(specs, [tmp_path / f"many_{seed}" for seed in range(RUNS)]) == many


@pytest.mark.parametrize("steps", [23, 40])
def test_stack_resumes_bit_for_bit(steps: int, stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [make_spec(stats, seed=seed) for seed in range(RUNS)]
    whole = [tmp_path / f"whole_{seed}" for seed in range(RUNS)]
    stopped = [tmp_path / f"stopped_{seed}" for seed in range(RUNS)]
    train_many(specs, whole)
    original = Stack.step
    calls = []

    def step(self: Stack, number: int, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(number)
        if len(calls) == steps + ensemble.PROBE_STEPS:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, number, tokens)

    with monkeypatch.context() as patch:
        patch.setattr(Stack, "step", step)
        with pytest.raises(SystemExit):
            train_many(specs, stopped)
    train_many(specs, stopped)
    for ours, theirs in zip(stopped, whole, strict=True):
        for name in ("summary.json", "curve.parquet", "model.safetensors"):
            assert (ours / name).read_bytes() == (theirs / name).read_bytes()


@pytest.mark.parametrize(
    ("line", "setup", "sentence"),
    [
        ("v_BHTP = v_BHTP * (1.0 if v_BHTP.abs().mean().item() < 1e9 else 2.0)", "pass", "cannot be stacked"),
        ("v_BHTP = v_BHTP + 0 * torch.rand(1)", "pass", "cannot be stacked"),
        ("v_BHTP = v_BHTP + self.kept; self.kept = v_BHTP.detach().mean()", "self.kept = 0", "cannot be stacked"),
        ("self.seen += 1; v_BHTP = v_BHTP * (1 + 0.01 * self.seen)", "self.seen = 0", "differs from the run alone"),
        (
            "self.seen = self.seen + 1; v_BHTP = v_BHTP * (1 + 0.01 * self.seen)",
            "self.register_buffer('seen', torch.zeros(1))",
            "differs from the run alone",
        ),
        (
            "type(self).seen = self.seen + 1; v_BHTP = v_BHTP * (1 + 0.01 * self.seen)",
            "type(self).seen = 0",
            "differs from the run alone",
        ),
        ("v_BHTP = v_BHTP * __import__('random').random()", "pass", "differs from the run alone"),
    ],
    ids=[
        *("item", "global randomness", "values kept between steps", "counter", "rebound buffer", "shared by all runs"),
        "python's randomness",
    ],
)
def test_mechanism_that_cannot_be_stacked_goes_one_after_another(
    line: str, setup: str, sentence: str, stats: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_mechanism(tmp_path / "odd.py", line, setup)
    specs = [make_spec(stats, path, seed=seed, steps=6) for seed in range(RUNS)]
    random.seed(1)
    summaries = train_many(specs, [tmp_path / f"run_{seed}" for seed in range(RUNS)])
    assert sentence in caplog.text
    assert read_json(tmp_path / "run_0/timing.json", "timing")["tier"] == "eager"
    if "random" not in line:
        for seed, spec in enumerate(specs):
            assert engine.train(spec, tmp_path / f"alone_{seed}")["loss"] == summaries[seed]["loss"]


@pytest.mark.parametrize(
    ("line", "setup"),
    [
        ("v_BHTP = v_BHTP - v_BHTP.mean()", "pass"),
        (
            "self.seen.add_(v_BHTP.detach().mean().abs()); v_BHTP = v_BHTP * (1 + self.seen)",
            "self.register_buffer('seen', torch.zeros(1))",
        ),
    ],
    ids=["mean over the batch", "buffer changed in place"],
)
def test_what_belongs_to_a_run_is_not_shared_by_the_stack(line: str, setup: str, stats: Path, tmp_path: Path) -> None:
    path = write_mechanism(tmp_path / "odd.py", line, setup)
    specs = [make_spec(stats, path, seed=seed, steps=20) for seed in range(RUNS)]
    summaries = train_many(specs, [tmp_path / f"run_{seed}" for seed in range(RUNS)])
    assert read_json(tmp_path / "run_0/timing.json", "timing")["tier"] == "stacked, eager"
    for seed, spec in enumerate(specs):
        assert engine.train(spec, tmp_path / f"alone_{seed}")["loss"] == pytest.approx(
            summaries[seed]["loss"], abs=1e-5
        )
        ours, theirs = (load_file(tmp_path / f"{way}_{seed}/model.safetensors") for way in ("run", "alone"))
        for name, tensor in theirs.items():
            torch.testing.assert_close(ours[name], tensor, atol=1e-4, rtol=1e-4)


def test_one_diverged_run_leaves_the_others_alone(stats: Path, tmp_path: Path) -> None:
    path = write_mechanism(tmp_path / "nan.py", "v_BHTP = v_BHTP / (self.key.weight.norm() < 0.55 * self.width**0.5)")
    rates = [1e-3, 5e-2, 1e-3, 1e-3]
    specs = [make_spec(stats, path, seed=seed, learning_rate=rate) for seed, rate in enumerate(rates)]
    summaries = train_many(specs, [tmp_path / f"run_{seed}" for seed in range(RUNS)])
    assert [summary["status"] for summary in summaries] == ["finished", "diverged", "finished", "finished"]
    assert summaries[2]["loss"] == pytest.approx(engine.train(specs[2], tmp_path / "alone")["loss"], abs=1e-4)


def test_runs_are_captured_alone_where_their_stack_cannot_be(
    stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    specs = [make_spec(stats, seed=seed, steps=3) for seed in range(RUNS)]
    monkeypatch.setattr(ensemble, "capture", lambda stepper, tokens: stepper if isinstance(stepper, Stack) else None)
    train_many(specs, [tmp_path / f"run_{seed}" for seed in range(RUNS)])
    assert "runs alone can be captured, their stack cannot" in caplog.text
    assert read_json(tmp_path / "run_0/timing.json", "timing")["tier"] == "eager"
    monkeypatch.undo()
    specs = [make_spec(stats, seed=seed, steps=4) for seed in range(RUNS)]
    train_many(specs, [tmp_path / f"run_{seed}" for seed in range(RUNS)])
    assert read_json(tmp_path / "run_0/timing.json", "timing")["tier"] == "stacked, eager"


def test_runs_that_do_not_belong_together_are_not_stacked(
    stats: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    specs = [make_spec(stats, batch_size=2 + seed, steps=3) for seed in range(RUNS)]
    with caplog.at_level(logging.INFO):
        train_many(specs, [tmp_path / f"run_{seed}" for seed in range(RUNS)])
    assert "stacked" not in caplog.text
