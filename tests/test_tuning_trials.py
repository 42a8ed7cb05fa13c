"""Tuning as files: the design, workers that are killed and come back, the choice, and the Optuna journal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from evomix.artifacts import digest_file, read_json, read_table, write_json
from evomix.corpus import documents, tokenizer, tokens
from evomix.errors import UserError
from evomix.fingerprint import fingerprint
from evomix.settings import Sandbox, Tuning
from evomix.specs import (
    Architecture,
    CorpusReference,
    Execution,
    Measurement,
    MechanismReference,
    Optimisation,
    RunSpec,
    corpus_reference,
    read_spec,
    spec_digest,
    write_spec,
)
from evomix.training.contained import RunError
from evomix.tuning import choice, design, trials

NAMES = ("learning_rate", "warmup_steps", "weight_decay", "batch_size")


def tuning(**settings: object) -> Tuning:
    return Tuning(**({"size": "base", "trials": 12, "steps": 20} | settings))


def run_spec(**settings: Any) -> RunSpec:
    fixed = {
        "framework": "matrix_mixer",
        "variant": "standard",
        "size": "base",
        "seed": 7,
        "mechanism": MechanismReference(path="softmax.py", digest="0"),
        "corpus": CorpusReference(folder="corpus", digest="0"),
        "architecture": Architecture(width=8, layers=1, heads=1, vocabulary=300, sequence_length=16, dropout=0.1),
        "optimisation": Optimisation(steps=1, batch_size=1, learning_rate=1, warmup_steps=0, weight_decay=0, clip=1),
        "measurement": Measurement(shard="search", every=10, rows=4),
        "execution": Execution(device="cpu", precision="float32", checkpoint_every=5),
        "sandbox": Sandbox(),
    }
    return RunSpec(**(fixed | settings))


class Quadratic:
    """A training whose loss is known: 2 + ln(rate / 4e-4)² / 50 − log2(batch) / 100, but too high a rate diverges."""

    def __init__(self, diverges_above: float = 1.0) -> None:
        self.diverges_above = diverges_above
        self.calls: list[RunSpec] = []

    def __call__(self, spec: RunSpec, folder: Path) -> dict[str, Any]:
        self.calls.append(spec)
        settings = spec.optimisation
        diverged = settings.learning_rate > self.diverges_above
        loss = 2 + np.log(settings.learning_rate / 4e-4) ** 2 / 50 - np.log2(settings.batch_size) / 100
        summary = {
            "status": "diverged" if diverged else "finished",
            "reason": "loss was not finite at step 3" if diverged else None,
            "loss": None if diverged else float(loss),
            "steps": settings.steps,
            "spec_digest": spec_digest(spec),
        }
        write_json(folder / "summary.json", "training", summary)
        return summary


def no_pause(spec: RunSpec, folder: Path, step: int) -> float | None:
    """Nothing is pruned unless asked for."""
    raise AssertionError


def run_all(settings: Tuning, folder: Path, train: trials.Trainer, workers: int = 2, **spec: Any) -> list[Path]:
    design.design(settings, folder / "design.json")
    files = [folder / f"worker_{worker}.json" for worker in range(workers)]
    for worker, file in enumerate(files):
        trials.run_trials(
            run_spec(**spec), folder / "design.json", worker, workers, folder, file, train=train, pause=no_pause
        )
    return files


def choose(settings: Tuning, folder: Path, files: list[Path]) -> dict[str, Any]:
    choice.choose(settings, folder / "design.json", files, folder / "best.json", policy="joint")
    return read_json(folder / "best.json", "tuning")


def test_design_is_even_in_range_and_begins_at_the_centre() -> None:
    points = design.points(tuning(trials=64))
    assert points[0] == {"learning_rate": 0.000316, "warmup_steps": 1000, "weight_decay": 0.05, "batch_size": 64}
    quarters = Counter(int(4 * np.log10(point["learning_rate"] / 1e-4 * (1 - 1e-9))) for point in points[1:])
    assert all(14 <= quarters[quarter] <= 18 for quarter in range(4)), quarters
    assert all(19 <= Counter(point["batch_size"] for point in points)[size] <= 24 for size in (32, 64, 128))
    for point in points:
        assert 1e-4 <= point["learning_rate"] <= 1e-3
        assert 500 <= point["warmup_steps"] <= 2000
        assert isinstance(point["warmup_steps"], int)
        assert 0 <= point["weight_decay"] <= 0.1


def test_every_trial_has_a_seed_of_its_own_that_variants_share() -> None:
    """With one seed for all, the surface would take what that seed does to neighbouring points for the loss's shape."""
    points = [{"number": number} | point for number, point in enumerate(design.points(tuning()))]
    seeds = {
        variant: [trials.trial_spec(run_spec(variant=variant, seed=seed), point, 20).seed for point in points]
        for variant, seed in (("standard", 7), ("evolved", 7), ("copy1", 8))
    }
    assert len(set(seeds["standard"])) == 12
    assert seeds["evolved"] == seeds["standard"]
    assert not set(seeds["copy1"]) & set(seeds["standard"])


def test_a_longer_design_begins_with_the_shorter_one() -> None:
    assert design.points(tuning(trials=20))[:8] == design.points(tuning(trials=8))
    assert design.points(tuning(seed=8))[1:] != design.points(tuning())[1:]


def test_design_is_the_same_in_another_process(tmp_path: Path) -> None:
    design.design(tuning(), tmp_path / "here.json")
    code = (
        "import sys; from pathlib import Path; from evomix.settings import Tuning; from evomix.tuning import design; "
        "design.design(Tuning(size='base', trials=12, steps=20), Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there.json")], check=True)
    assert (tmp_path / "here.json").read_bytes() == (tmp_path / "there.json").read_bytes()


def test_workers_train_every_trial_once_with_its_own_settings(tmp_path: Path) -> None:
    train = Quadratic()
    files = run_all(tuning(), tmp_path, train, workers=5)
    planned = read_json(tmp_path / "design.json", "tuning_design")["trials"]
    told = [trial for file in files for trial in read_json(file, "tuning_worker")["trials"]]
    assert sorted(trial["number"] for trial in told) == list(range(12))
    assert len(train.calls) == 12
    for trial in planned:
        spec = read_spec(tmp_path / f"trial_{trial['number']}/spec.json", RunSpec)
        assert {name: getattr(spec.optimisation, name) for name in NAMES} == {name: trial[name] for name in NAMES}
        assert (spec.optimisation.steps, spec.measurement.shard) == (20, "search")


def test_finished_trials_are_kept_and_stale_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, more, other, new = Quadratic(), Quadratic(), Quadratic(), Quadratic()
    files = run_all(tuning(trials=6), tmp_path, first)
    before = [file.read_bytes() for file in files]
    assert [file.read_bytes() for file in run_all(tuning(trials=6), tmp_path, more)] == before
    assert more.calls == [], "nothing to do"
    run_all(tuning(trials=9), tmp_path, more, workers=3)
    assert len(more.calls) == 3, "more trials, dealt to more workers, train only the new ones"
    run_all(tuning(trials=9), tmp_path, other, seed=8)
    assert len(other.calls) == 9, "another spec"
    monkeypatch.setattr(trials, "fingerprint", lambda *modules: fingerprint(*modules) + "changed")
    run_all(tuning(trials=9), tmp_path, new, seed=8)
    assert len(new.calls) == 9, "another engine"


def test_a_stale_checkpoint_does_not_survive(tmp_path: Path) -> None:
    run_all(tuning(trials=4), tmp_path, Quadratic())
    (tmp_path / "trial_0/checkpoint").mkdir()
    (tmp_path / "trial_0/summary.json").unlink()
    run_all(tuning(trials=4), tmp_path, Quadratic())
    assert (tmp_path / "trial_0/checkpoint").exists(), "the same trial resumes"
    run_all(tuning(trials=4), tmp_path, Quadratic(), seed=9)
    assert not (tmp_path / "trial_0/checkpoint").exists(), "another trial starts afresh"


def test_choice(tmp_path: Path) -> None:
    settings = tuning(trials=24)
    best = choose(settings, tmp_path, run_all(settings, tmp_path, Quadratic()))
    assert best["chosen"]["learning_rate"] == pytest.approx(4e-4, rel=0.1)
    assert best["chosen"]["batch_size"] == 128
    assert set(best["chosen"]) == set(NAMES)
    assert "batch_size" in best["at_edge"]
    assert "learning_rate" not in best["at_edge"]
    assert best["predicted"]["loss"] == pytest.approx(1.93, abs=3e-3)
    assert best["expected_regret"] < 2e-3
    assert best["budget"] == {"size": "base", "trials": 24, "steps": 20, "total_steps": 480, "pruning": "none"}
    assert best["trials"] == {"planned": 24, "finished": 24, "pruned": 0}
    assert best["spent_steps"] == 480
    assert (best["framework"], best["variant"], best["policy"]) == ("matrix_mixer", "standard", "joint")
    assert best["provenance"]["tuning_policy"] == "joint"
    low, high = best["possible"]["learning_rate"]
    assert low <= best["chosen"]["learning_rate"] <= high
    assert best["surface"]["coefficients"]["learning_rate × learning_rate"] > 0
    table = read_table(tmp_path / "trials.parquet")
    lucky = table.loc[table["loss"].idxmin()]
    assert best["luckiest"]["number"] == lucky["number"]
    assert best["luckiest"]["optimism"] == pytest.approx(lucky["predicted"] - lucky["loss"], abs=1e-5)


def test_choice_is_the_same_whoever_trained_the_trials(tmp_path: Path) -> None:
    settings = tuning()
    for folder, workers in (("a", 1), ("b", 4)):
        files = run_all(settings, tmp_path / folder, Quadratic(), workers)
        choose(settings, tmp_path / folder, files[::-1])
    for name in ("best.json", "trials.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_journal_is_a_real_optuna_study(tmp_path: Path) -> None:
    settings = tuning()
    best = choose(settings, tmp_path, run_all(settings, tmp_path, Quadratic(diverges_above=8e-4)))
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal"))
    )
    study = optuna.load_study(study_name="matrix_mixer/standard", storage=storage)
    planned = read_json(tmp_path / "design.json", "tuning_design")["trials"]
    first = [trial.params for trial in study.trials[:12]]
    assert first == [{name: trial[name] for name in NAMES} for trial in planned]
    failed = {trial.user_attrs["number"] for trial in study.trials if trial.state == optuna.trial.TrialState.FAIL}
    assert (
        {number for number in failed if number < 12}
        == {trial["number"] for trial in planned if trial["learning_rate"] > 8e-4}
        != set()
    )
    assert {int(number) for number in best["failures"]} == failed
    assert study.best_trial.user_attrs["number"] == best["luckiest"]["number"]
    assert study.best_value == best["luckiest"]["loss"]


def test_nothing_is_chosen_beside_a_diverged_trial(tmp_path: Path) -> None:
    settings = tuning(trials=32)
    best = choose(settings, tmp_path, run_all(settings, tmp_path, Quadratic(diverges_above=3e-4)))
    assert best["chosen"]["learning_rate"] < 4e-4, "the surface falls to 4e-4, but trials there diverged"


def test_too_few_finished_trials_are_an_error(tmp_path: Path) -> None:
    files = run_all(tuning(), tmp_path, Quadratic(diverges_above=1.2e-4))
    with pytest.raises(
        UserError, match=r"only \d of 12 .*matrix_mixer/standard finished.*loss was not finite at step 3"
    ):
        choose(tuning(), tmp_path, files)
    assert not (tmp_path / "best.json").exists()


def test_code_that_raises_is_a_failed_trial(tmp_path: Path) -> None:
    known = Quadratic()

    def train(spec: RunSpec, folder: Path) -> dict[str, Any]:
        if spec.optimisation.batch_size == 128:
            raise RunError("RuntimeError: out of memory")
        return known(spec, folder)

    best = choose(tuning(trials=16), tmp_path, run_all(tuning(trials=16), tmp_path, train))
    assert set(best["failures"].values()) == {"RuntimeError: out of memory"}
    assert best["chosen"]["batch_size"] == 64


def test_unequal_budgets_are_refused(tmp_path: Path) -> None:
    files = run_all(tuning(), tmp_path, Quadratic(), workers=3)
    with pytest.raises(UserError, match=r"trials \[2, 5, 8, 11\] of .* have no result"):
        choose(tuning(), tmp_path, files[:2])
    other = run_all(tuning(), tmp_path / "other", Quadratic(), workers=3, variant="evolved")
    with pytest.raises(UserError, match="not of one variant"):
        choose(tuning(), tmp_path, [*files[:2], other[2]])
    design.design(tuning(trials=13), tmp_path / "design.json")
    with pytest.raises(UserError, match="from another design"):
        choose(tuning(trials=13), tmp_path, files)
    with pytest.raises(UserError, match="worker 3 does not exist among 3 workers"):
        trials.run_trials(
            run_spec(), tmp_path / "design.json", 3, 3, tmp_path, tmp_path / "x", train=Quadratic(), pause=no_pause
        )


KILLABLE = """
import sys
from pathlib import Path
from evomix.specs import RunSpec, read_spec
from evomix.training.engine import train
from evomix.tuning import trials
folder, worker = Path(sys.argv[1]), int(sys.argv[2])
run = read_spec(folder / "run.json", RunSpec)
output = folder / f"worker_{worker}.json"
trials.run_trials(run, folder / "design.json", worker, 2, folder, output, train=train, pause=None)
"""


def real_study(folder: Path) -> Tuning:
    """Write a small corpus, a run of the real engine and its design; return the tuning."""
    from evomix.mechanisms import library
    from evomix.settings import Corpus

    corpus = Corpus(source="grammar", stories=150, vocabulary=300, sequence_length=16)
    documents.collect(corpus, folder / "documents")
    tokenizer.train(folder / "documents/train.jsonl", 300, folder / "tokenizer.json")
    for shard in documents.SHARDS:
        tokens.encode(folder / "tokenizer.json", folder / f"documents/{shard}.jsonl", folder / f"{shard}.bin")
    tokens.summarise(folder, folder / "stats.json")
    standard = library.standard("matrix_mixer")
    run = run_spec(
        mechanism=MechanismReference(path=str(standard), digest=digest_file(standard)),
        corpus=corpus_reference(folder / "stats.json"),
    )
    write_spec(folder / "run.json", run)
    settings = tuning(trials=4, steps=40, learning_rate=(1e-3, 3e-2), warmup_steps=(1, 8), batch_sizes=[4, 8])
    design.design(settings, folder / "design.json")
    return settings


def test_a_killed_worker_finishes_with_the_same_bytes(tmp_path: Path) -> None:
    """One of two workers is killed: the other is not held up, and the killed one goes on where it was."""
    settings = real_study(tmp_path)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    files = [tmp_path / f"worker_{worker}.json" for worker in range(2)]
    commands = [[sys.executable, "-c", KILLABLE, str(tmp_path), str(worker)] for worker in range(2)]
    process, other = (subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for command in commands)
    deadline = time.monotonic() + 300
    while not (tmp_path / "trial_2/checkpoint").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert other.wait(timeout=300) == 0
    assert [file.exists() for file in files] == [False, True], "killed before the end; the other ended"
    kept = (tmp_path / "trial_0/timing.json").read_bytes()
    subprocess.run(commands[0], env=environment, check=True, stderr=subprocess.DEVNULL)
    assert (tmp_path / "trial_0/timing.json").read_bytes() == kept, "the finished trial was not trained again"
    interrupted = files[0].read_bytes()
    best = choose(settings, tmp_path, files)
    assert not list(tmp_path.rglob("*.lock*")), "nobody waits for a lock"

    for number in (0, 2):
        (tmp_path / f"trial_{number}/summary.json").unlink()
    subprocess.run(commands[0], env=environment, check=True, stderr=subprocess.DEVNULL)
    assert files[0].read_bytes() == interrupted
    losses = [trial["loss"] for file in files for trial in json.loads(file.read_bytes())["trials"]]
    assert len(set(losses)) == 4
    assert all(3 < loss < 6 for loss in losses)
    assert best["trials"]["finished"] == 4
