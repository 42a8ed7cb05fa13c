"""A GPU's way of training, on a GPU: captured, compiled, in the sandbox, killed. Skipped where there is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from evomix.artifacts import digest_file, read_json
from evomix.mechanisms import library
from evomix.model.transformer import Transformer
from evomix.specs import Execution, Optimisation, RunSpec
from evomix.training import checkpoint, compiling
from evomix.training.contained import train_all_contained, train_contained_until
from evomix.training.graph import capture
from evomix.training.trainer import Trainer
from training_study import SHARDS, architecture, make_spec, write_corpus

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

STANDARD = library.standard("matrix_mixer")
UNTIL = 600


@pytest.fixture(scope="module")
def stats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), 2048, {**SHARDS, "train": 60_000, "search": 9_000})


def long_run(stats: Path, seed: int = 1) -> RunSpec:
    """Return a run of a million steps, for which a compiled step is repaid; the tests pause it early."""
    shape = {"width": 64, "layers": 2, "heads": 2, "vocabulary": 2048, "sequence_length": 64, "batch_size": 32}
    length = {"steps": 1_000_000, "every": 200, "checkpoint_every": 100}
    return make_spec(stats, STANDARD, device="cuda", precision="bfloat16", seed=seed, **shape, **length)


def test_captured_steps_equal_eager_ones() -> None:
    optimisation = Optimisation(steps=10, batch_size=2, learning_rate=1e-2, warmup_steps=0, weight_decay=0.1, clip=1.0)
    execution = Execution.model_validate({"device": "cuda", "precision": "float32", "checkpoint_every": 10})
    trainer = Trainer(Transformer(architecture(), library.load(STANDARD), 1).cuda(), optimisation, execution, 1)
    tokens = [torch.randint(61, (2, 17)).cuda() for _ in range(2)]
    assert capture(trainer, tokens) is not trainer


def state(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the newest checkpoint."""
    stored = checkpoint.load(folder / "checkpoint")
    assert stored is not None
    assert stored[1]["finished"] == UNTIL
    return stored[0]


def test_a_killed_compiled_run_goes_on_to_the_same_bits(
    stats: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = long_run(stats)
    loss = train_contained_until(spec, tmp_path / "whole", UNTIL)
    assert list(compiling.cache_folder().glob("*.compiled"))
    # What the engine says when the compiled step is not right, and when its process ended badly.
    assert "not taken by" not in capfd.readouterr().err
    assert "once more without" not in caplog.text
    script = textwrap.dedent(f"""
        import sys
        sys.path[:0] = {[str(Path(__file__).parent)]!r}
        from pathlib import Path
        from test_training_gpu import UNTIL, long_run, train_contained_until
        train_contained_until(long_run(Path({str(stats)!r})), Path({str(tmp_path / "killed")!r}), UNTIL)
        """)
    checkpoints = tmp_path / "killed/checkpoint"
    with subprocess.Popen([sys.executable, "-c", script], env=dict(os.environ)) as victim:
        while victim.poll() is None and not list(checkpoints.glob("step_*")):
            time.sleep(0.01)
        victim.send_signal(signal.SIGKILL)
    assert list(checkpoints.glob("step_*"))
    assert train_contained_until(spec, tmp_path / "killed", UNTIL) == loss
    ours, theirs = state(tmp_path / "killed"), state(tmp_path / "whole")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("runs", [1, 4])
def test_short_runs_are_trained_without_compiling(stats: Path, tmp_path: Path, runs: int) -> None:
    specs = [
        long_run(stats, seed).model_copy(
            update={"optimisation": long_run(stats).optimisation.model_copy(update={"steps": 60})}
        )
        for seed in range(runs)
    ]
    summaries = train_all_contained([(spec, tmp_path / f"run_{spec.seed}") for spec in specs])
    assert [summary["status"] for summary in summaries] == ["finished"] * runs
    timing = read_json(tmp_path / "run_0/timing.json", "timing")
    assert timing["tier"] == ("captured" if runs == 1 else "stacked, captured")
    assert timing["device"] == "cuda"
    assert digest_file(tmp_path / "run_0/model.safetensors")
