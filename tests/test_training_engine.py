"""The engine from spec to results: what it writes, how it ends a lost run, and what it says to a wrong input."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from evomix.artifacts import read_json
from evomix.errors import UserError
from evomix.mechanisms import library
from evomix.training import engine
from evomix.training.scoring import score, subset_rows
from training_study import VOCABULARY, make_spec, write_corpus, write_mechanism


@pytest.fixture(scope="module")
def stats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def test_training_writes_its_results(stats: Path, tmp_path: Path) -> None:
    spec = make_spec(stats, steps=300, every=50, learning_rate=1e-2)
    summary = engine.train(spec, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "summary.json",
        "timing.json",
        "curve.parquet",
        "model.safetensors",
    }
    assert summary == read_json(tmp_path / "summary.json", "training")
    assert (summary["status"], summary["reason"], summary["steps"]) == ("finished", None, 300)
    assert summary["loss_at_start"] == pytest.approx(math.log(VOCABULARY), abs=0.1)
    assert summary["loss"] < 2.5
    assert 0 < summary["steps_to_90"] < 300
    manifest = read_json(stats.parent / "search.json", "shard")
    per_byte = summary["loss"] * manifest["tokens"] / manifest["bytes"] / math.log(2)
    assert summary["bits_per_byte"] == pytest.approx(per_byte)
    curve = pd.read_parquet(tmp_path / "curve.parquet")
    assert list(curve["step"]) == list(range(301))
    assert list(curve.loc[curve["held_out_loss"].notna(), "step"]) == [0, 50, 100, 150, 200, 250, 300]
    timing = json.loads((tmp_path / "timing.json").read_text())
    assert timing["tokens_per_second"] > 0
    assert timing["peak_memory_bytes"] > 1e6
    assert 100 < timing["dispatches_per_step"] < 5_000


def test_same_spec_gives_same_bytes_and_is_not_trained_twice(
    stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(stats)
    torch.manual_seed(1)
    first = engine.train(spec, tmp_path / "a")
    torch.rand(17)
    engine.train(spec, tmp_path / "b")
    for name in ("summary.json", "curve.parquet", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(engine, "Session", None)
        assert engine.train(spec, tmp_path / "a") == first
    again = engine.train(make_spec(stats, learning_rate=1e-3), tmp_path / "a")
    assert again["loss"] != first["loss"]


def test_every_knob_reaches_the_training(stats: Path, tmp_path: Path) -> None:
    changes: list[dict[str, float]] = [{}, {"seed": 4}, {"weight_decay": 0.5}, {"clip": 0.01}, {"dropout": 0.0}]
    losses = {
        engine.train(make_spec(stats, steps=20, **change), tmp_path / str(number))["loss"]
        for number, change in enumerate(changes)
    }
    assert len(losses) == len(changes)


def test_bfloat16_run_stays_close(stats: Path, tmp_path: Path) -> None:
    losses = [
        engine.train(make_spec(stats, precision=precision), tmp_path / precision)["loss"]
        for precision in ("float32", "bfloat16")
    ]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], abs=0.02)


def test_saved_weights_score_as_in_the_summary(stats: Path, tmp_path: Path) -> None:
    spec = make_spec(stats)
    summary = engine.train(spec, tmp_path)
    fresh = score(spec, tmp_path / "model.safetensors", "search")
    assert (fresh["loss"], fresh["bits_per_byte"]) == (summary["loss"], summary["bits_per_byte"])
    assert score(spec, tmp_path / "model.safetensors", "test")["loss"] != summary["loss"]
    with pytest.raises(UserError, match="missing weights"):
        score(spec, tmp_path / "nothing.safetensors", "search")
    (tmp_path / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(UserError, match="does not hold this run's weights"):
        score(spec, tmp_path / "model.safetensors", "search")


def test_nan_ends_the_run_within_a_block(stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_mechanism(
        tmp_path / "nan.py", "v_BHTP = v_BHTP / (0 if self.key.weight.norm() > 0.55 * self.width**0.5 else 1)"
    )
    calls = []
    original = engine.Trainer.step

    def step(self: engine.Trainer, number: int, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(number)
        return original(self, number, tokens)

    monkeypatch.setattr(engine.Trainer, "step", step)
    spec = make_spec(stats, path, steps=2_000, learning_rate=2e-2, every=500)
    summary = engine.train(spec, tmp_path / "run")
    assert summary["status"] == "diverged"
    assert "not finite" in summary["reason"]
    assert 5 < summary["steps"] <= max(calls) + 1 <= summary["steps"] + engine.BLOCK
    assert (summary["loss"], summary["bits_per_byte"], summary["steps_to_90"]) == (None, None, None)
    assert len(pd.read_parquet(tmp_path / "run/curve.parquet")) == summary["steps"]


def test_a_mechanism_of_many_operations_is_named(
    stats: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dispatches = engine.prepare(make_spec(stats))[2].operations
    assert not caplog.records
    monkeypatch.setattr(engine, "MANY_DISPATCHES", dispatches - 1)
    engine.prepare(make_spec(stats))
    assert f"{dispatches} operations per step (more than {dispatches - 1})" in caplog.text


def test_parameters_made_while_running_are_refused(stats: Path, tmp_path: Path) -> None:
    line = "self.late = getattr(self, 'late', None) or torch.nn.Parameter(torch.ones(1))"
    spec = make_spec(stats, write_mechanism(tmp_path / "late.py", line))
    with pytest.raises(UserError, match=r"makes blocks\.0\.mechanism\.late while it runs"):
        engine.train(spec, tmp_path / "run")


def test_exploding_learning_rate_is_told_apart_from_success(stats: Path, tmp_path: Path) -> None:
    summary = engine.train(make_spec(stats, steps=200, learning_rate=30.0, warmup_steps=1, clip=1e9), tmp_path)
    assert summary["status"] == "diverged"
    assert summary["loss"] is None


def test_subset_is_fixed_and_spread() -> None:
    assert subset_rows(100, 5).tolist() == [0, 20, 40, 60, 80]
    assert subset_rows(3, 5).tolist() == [0, 1, 2]


def test_wrong_inputs_cost_one_sentence(stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mechanism = tmp_path / "mechanism.py"
    mechanism.write_bytes(library.standard("matrix_mixer").read_bytes())
    spec = make_spec(stats, mechanism)
    mechanism.write_text(mechanism.read_text() + "# changed\n")
    with pytest.raises(UserError, match=r"mechanism .*mechanism\.py has changed"):
        engine.train(spec, tmp_path / "run")
    mechanism.unlink()
    with pytest.raises(UserError, match=r"missing mechanism .*mechanism\.py"):
        engine.train(spec, tmp_path / "run")
    with pytest.raises(UserError, match=r"61 tokens in its vocabulary, the spec's model has 70"):
        engine.train(make_spec(stats, vocabulary=70), tmp_path / "run")
    stale = make_spec(stats, digest="0" * 64)
    with pytest.raises(UserError, match=r"has changed since the spec was written"):
        engine.train(stale, tmp_path / "run")
    with pytest.raises(UserError, match=r"fewer than one batch"):
        engine.train(make_spec(stats, batch_size=5_000), tmp_path / "run")
    monkeypatch.setenv("EVOMIX_THREADS", "many")
    with pytest.raises(UserError, match="EVOMIX_THREADS"):
        engine.train(make_spec(stats), tmp_path / "run")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_an_error(stats: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no usable GPU"):
        engine.train(make_spec(stats, device="cuda"), tmp_path)


def test_changed_corpus_is_noticed(tmp_path: Path) -> None:
    stats = write_corpus(tmp_path / "corpus")
    spec = make_spec(stats)
    stats.write_text(stats.read_text().replace("unigram_entropy", "unigram_entropy_"))
    with pytest.raises(UserError, match=r"corpus .*stats\.json has changed"):
        engine.train(spec, tmp_path / "run")
