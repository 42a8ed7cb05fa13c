"""Ablation: each edit is worth what it changes, exactly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from ablation_study import BUDGET, INERT, LOUD, MIXER, SHARP, change, split_files, standard
from evomix.ablation import effects, trainings
from evomix.ablation.section import AblationSection
from evomix.artifacts import read_json, write_json
from evomix.commands.training import train_worker
from evomix.specs import RunSpec, write_spec
from evomix.training import engine
from evomix.training.contained import RunError, train_all_contained
from training_study import make_spec, write_corpus


def measured(folder: Path, summaries: list[Path], section: AblationSection) -> dict[str, Any]:
    effects.measure(folder / "edits.json", [folder / "worker_0.json"], summaries, section, folder / "ablation.json")
    return read_json(folder / "ablation.json", "ablation")


@pytest.fixture(scope="module")
def stats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


SEEDS = [3, 4, 5, 6]


def run_spec(stats: Path, mechanism: Path, seed: int) -> RunSpec:
    changes = {"framework": MIXER, "variant": mechanism.stem, "seed": seed, "steps": 20, "batch_size": 2}
    return make_spec(stats, mechanism, **changes, width=8, layers=1, rows=8)


def test_inert_is_zero_to_the_bit_and_a_large_effect_has_its_sign(stats: Path, tmp_path: Path) -> None:
    """From split to effects with real trainings in the sandbox: one edit is dead code, one wrecks the model.

    Then a run that was lost is trained again, alone, and everything is as it was.
    """
    split_files(tmp_path, standard(MIXER), change(standard(MIXER), INERT, LOUD))
    summaries = []
    for variant in ("standard", "evolved"):
        for seed in SEEDS:
            folder = tmp_path / "training" / variant / f"seed_{seed}"
            engine.train(run_spec(stats, tmp_path / f"{variant}.py", seed), folder)
            summaries.append(folder / "summary.json")
    trained: list[int] = []

    def train(runs: Any) -> list[dict[str, Any]]:
        trained.append(sum(not (folder / "summary.json").exists() for _, folder in runs))
        return train_all_contained(runs, stack=False)

    def work() -> dict[str, Any]:
        trainings.train(
            tmp_path / "edits.json", tmp_path / "variants", SEEDS, 0, 1, tmp_path / "worker_0.json",
            specify=lambda kind, mechanism, seed: run_spec(stats, mechanism, seed), train=train,
        )  # fmt: skip
        section = AblationSection(size="tiny", seeds=SEEDS, policy="joint", preset="test", budget=BUDGET)
        return measured(tmp_path, summaries, section)

    result = work()
    inert, loud = result["edits"]
    for kind in ("reverted", "added"):
        effect = inert[kind]["effect"]
        assert (effect["mean"], effect["low"], effect["high"], effect["p"], effect["n"]) == (0, 0, 0, 1, 4)
        assert loud[kind]["effect"]["high"] < 0
        assert loud[kind]["effect"]["holm_p"] < 0.05
    assert "1 worth exactly nothing" in result["summary"]
    (tmp_path / "runs/without_2/seed_5/summary.json").unlink()
    assert work() == result
    assert trained[0] == 16
    assert sum(trained[1:]) == 1


def test_runs_that_are_not_stacked_equal_runs_alone(stats: Path, tmp_path: Path) -> None:
    (tmp_path / "standard.py").write_text(standard(MIXER))
    specs = [run_spec(stats, tmp_path / "standard.py", seed) for seed in SEEDS]
    folders = [tmp_path / f"run_{spec.seed}" for spec in specs]
    for spec, folder in zip(specs, folders, strict=True):
        write_spec(folder / "spec.json", spec)
    train_worker(folders, way="alone")
    for spec, folder in zip(specs, folders, strict=True):
        engine.train(spec, tmp_path / "alone")
        assert (folder / "summary.json").read_bytes() == (tmp_path / "alone/summary.json").read_bytes()


def test_a_failed_run_is_named_and_finished_ones_are_kept(tmp_path: Path) -> None:
    """Killed in the middle, a worker asks for the missing runs alone; a run that fails again is a result."""
    split_files(tmp_path, standard(MIXER), change(standard(MIXER), LOUD, SHARP), add_alone=False)
    asked: list[list[tuple[str, int]]] = []

    def train(runs: Any) -> list[dict[str, Any]]:
        names = [(spec.variant, spec.seed) for spec, _ in runs]
        asked.append(names)
        if ("without_2", 4) in names:
            raise RunError("it raised")
        return [{"status": "finished", "reason": None, "loss": 2.0 + spec.seed} for spec, _ in runs]

    stats = write_corpus(tmp_path / "corpus")
    for worker in (0, 1):
        trainings.train(
            tmp_path / "edits.json", tmp_path / "variants", [3, 4], worker, 2, tmp_path / f"worker_{worker}.json",
            specify=lambda kind, mechanism, seed: run_spec(stats, mechanism, seed), train=train,
        )  # fmt: skip
    assert asked[0] == [("without_1", 3), ("without_2", 3)]
    assert asked[3] == [("without_1", 4), ("without_2", 4)]
    workers = [read_json(tmp_path / f"worker_{worker}.json", "ablation_worker") for worker in (0, 1)]
    runs = [run for worker in workers for run in worker["runs"]]
    assert {(run["variant"], run["seed"]): run["loss"] for run in runs} == {
        ("without_1", 3): 5.0, ("without_2", 3): 5.0, ("without_1", 4): 6.0, ("without_2", 4): None,
    }  # fmt: skip
    runs_of_2 = [run for run in runs if run["variant"] == "without_2"]
    block = effects._measured(
        {"variant": "without_2", "status": "separate", "reason": None},
        {"without_2": runs_of_2},
        {3: 4.5, 4: 4.5},
        1,
    )
    assert block["status"] == "trained"
    assert block["reason"] == "1 of 2 pairs have no difference: seed 4: it raised"
    assert block["effect"]["mean"] == 0.5
    assert math.isnan(block["effect"]["low"])
    assert (block["effect"]["n"], block["effect"]["lost"]) == (1, 1)
    against_diverged = {3: math.nan, 4: 4.5}
    nothing = effects._measured(block | {"status": "separate"}, {"without_2": runs_of_2}, against_diverged, 1)
    assert nothing["status"] == "failed"
    assert nothing["effect"] is None
    assert "seed 3: the run that it is compared with diverged; seed 4: it raised" in nothing["reason"]


def test_nothing_evolved_is_said_in_words(stats: Path, tmp_path: Path) -> None:
    split_files(tmp_path, standard(MIXER), f"# another comment\n{standard(MIXER)}")
    write_json(tmp_path / "worker_0.json", "ablation_worker", {"worker": 0, "runs": []})
    summaries = []
    for variant in ("standard", "evolved"):
        engine.train(run_spec(stats, tmp_path / f"{variant}.py", 3), tmp_path / variant)
        summaries.append(tmp_path / variant / "summary.json")
    section = AblationSection(size="tiny", seeds=[3], policy="joint", preset="test", budget=BUDGET)
    result = measured(tmp_path, summaries, section)
    assert result["edits"] == []
    assert result["summary"] == "nothing evolved: no edit to ablate (evolved computes what standard computes)"
