"""Pruning: Optuna's successive halving stops trials early, the same ones whatever the order of jobs or kills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from conftest import copy_project
from evomix.artifacts import read_json, read_table
from evomix.settings import Tuning
from evomix.specs import RunSpec, read_spec
from evomix.streams import numpy_stream
from evomix.training import engine
from evomix.training.finished import held_out_at
from evomix.tuning import choice, design, surface, trials
from evomix.tuning.pruning import Halving, rung
from evomix.tuning.search_space import coordinates, dimensions, grid
from test_tuning import NOISE, Array, World
from test_tuning_trials import Quadratic, real_study, run_spec, tuning
from workflow_runs import snakemake

PRUNED = optuna.trial.TrialState.PRUNED


class Pausing(Quadratic):
    """The known training, which can be paused: half-way its loss is above the final one by the same for all."""

    def __init__(self, diverges_above: float = 1.0) -> None:
        super().__init__(diverges_above)
        self.paused: list[tuple[str, int]] = []

    def pause(self, spec: RunSpec, folder: Path, step: int) -> float | None:
        self.paused.append((folder.name, step))
        loss = Quadratic(self.diverges_above)(spec, folder / "known")["loss"]
        return None if loss is None else loss + 0.3


def share(settings: Tuning, folder: Path, worker: int, workers: int, train: Pausing) -> Path:
    """Train one worker's share, judged at step 40 of 80."""
    design.design(settings, folder / "design.json")
    file = folder / f"worker_{worker}.json"
    run = run_spec()
    run = run.model_copy(update={"measurement": run.measurement.model_copy(update={"every": 20})})
    trials.run_trials(run, folder / "design.json", worker, workers, folder, file, train=train, pause=train.pause)
    return file


def chosen(settings: Tuning, folder: Path, files: list[Path]) -> dict[str, Any]:
    choice.choose(settings, folder / "design.json", files, folder / "best.json", policy="joint")
    return read_json(folder / "best.json", "tuning")


def test_the_rung_lies_at_half_of_the_steps_where_the_loss_is_measured() -> None:
    assert rung(50_000, 1_000) == 25_000
    assert rung(50_000, 4_000) == 24_000
    assert rung(80, 50) is None
    assert rung(6, 4) is None


def test_the_better_half_goes_on_and_the_rest_is_marked(tmp_path: Path) -> None:
    settings, train = tuning(trials=24, steps=80, pruning="halving"), Pausing()
    best = chosen(settings, tmp_path, [share(settings, tmp_path, 0, 1, train)])
    pruned = {int(number) for number in best["pruned"]}
    assert 8 <= len(pruned) <= 16
    assert best["trials"] == {"planned": 24, "finished": 24 - len(pruned), "pruned": len(pruned)}
    assert best["failures"] == {}
    assert best["budget"]["total_steps"] == 24 * 80, "what may be spent is equal for all variants"
    assert best["spent_steps"] == 80 * (24 - len(pruned)) + 40 * len(pruned)
    assert len(train.calls) == 24 - len(pruned), "a pruned trial is not trained on"
    assert best["chosen"]["learning_rate"] == pytest.approx(4e-4, rel=0.2)

    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal"))
    )
    study = optuna.load_study(study_name="matrix_mixer/standard", storage=storage)
    assert {trial.number for trial in study.trials if trial.state == PRUNED} == pruned
    assert all(set(trial.intermediate_values) == {40} for trial in study.trials)
    assert study.best_trial.user_attrs["number"] == best["luckiest"]["number"]
    table = read_table(tmp_path / "trials.parquet")
    assert set(table.loc[table["status"] == "pruned", "number"]) == pruned
    assert table.loc[table["status"] == "pruned", "loss"].isna().all(), "an early loss is no final loss"


def test_optuna_judges_each_trial_by_those_before_it_in_its_share(tmp_path: Path) -> None:
    """Successive halving by hand: a trial goes on if it is in the better half of those that got there so far."""
    settings = tuning(trials=24, steps=80, pruning="halving")
    told = read_json(share(settings, tmp_path, 1, 2, Pausing()), "tuning_worker")["trials"]
    assert [trial["number"] for trial in told] == list(range(1, 24, 2))
    reached: list[float] = []
    for trial in told:
        reached.append(trial["rungs"]["40"])
        better_half = sorted(reached)[: max(len(reached) // 2, 1)]
        assert (trial["status"] == "pruned") == (reached[-1] not in better_half), trial


def test_the_order_of_jobs_and_a_kill_change_nothing(tmp_path: Path) -> None:
    settings = tuning(trials=24, steps=80, pruning="halving")
    files = [share(settings, tmp_path / "a", worker, 2, Pausing()) for worker in (0, 1)]
    first = chosen(settings, tmp_path / "a", files)
    later = [share(settings, tmp_path / "b", worker, 2, Pausing()) for worker in (1, 0)]
    (tmp_path / "b/worker_1.json").unlink()  # the worker was killed before it could write
    (tmp_path / "b/trial_23/summary.json").unlink(missing_ok=True)
    share(settings, tmp_path / "b", 1, 2, Pausing())
    assert chosen(settings, tmp_path / "b", later) == first
    for name in ("worker_0.json", "worker_1.json", "best.json", "trials.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_diverged_trial_is_failed_and_not_pruned(tmp_path: Path) -> None:
    settings = tuning(trials=24, steps=80, pruning="halving")
    best = chosen(settings, tmp_path, [share(settings, tmp_path, 0, 1, Pausing(diverges_above=8e-4))])
    planned = read_json(tmp_path / "design.json", "tuning_design")["trials"]
    assert {int(number) for number in best["failures"] if int(number) < 24} == {
        trial["number"] for trial in planned if trial["learning_rate"] > 8e-4
    }
    assert set(best["failures"].values()) == {"loss was not finite at step 3"}


def test_a_paused_training_ends_in_the_same_bytes(tmp_path: Path) -> None:
    real_study(tmp_path)
    run = read_spec(tmp_path / "run.json", RunSpec)
    settings = run.optimisation.model_copy(update={"steps": 40, "batch_size": 4, "learning_rate": 3e-3})
    run = run.model_copy(update={"optimisation": settings})
    whole = engine.train(run, tmp_path / "whole")
    assert held_out_at(run, tmp_path / "whole", 10) is None
    for step in (10, 20):
        engine.train_until(run, tmp_path / "paused", step)
        assert not (tmp_path / "paused/summary.json").exists()
        assert held_out_at(run, tmp_path / "paused", step) is not None
    assert held_out_at(run, tmp_path / "paused", 30) is None
    changed = run.model_copy(update={"seed": 8})
    assert held_out_at(changed, tmp_path / "paused", 10) is None, "of another spec"
    assert engine.train(run, tmp_path / "paused") == whole
    for name in ("summary.json", "curve.parquet", "model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "paused" / name).read_bytes()
    curve = read_table(tmp_path / "whole/curve.parquet")
    at = curve.loc[curve["step"] == 20, "held_out_loss"].iloc[0]
    assert held_out_at(run, tmp_path / "paused", 20) == at
    assert np.isfinite(at)


@pytest.mark.slow
def test_pruned_trials_of_a_real_study_in_the_sandbox(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "evomix")
    target = "results/test/tuning/matrix_mixer/standard/best.json"
    pruned = 'tuning={"trials": 8, "steps": 24, "pruning": "halving"}'
    snakemake(project, target, "--config", "frameworks=[matrix_mixer]", pruned)
    best = read_json(project / target, "tuning")
    assert best["trials"]["finished"] + best["trials"]["pruned"] == 8
    assert best["trials"]["pruned"] >= 2
    assert best["spent_steps"] < best["budget"]["total_steps"] == 8 * 24


@pytest.mark.slow
def test_at_equal_compute_fewer_whole_trials_choose_better() -> None:
    """50 trials halved as the workflow halves them, in the best case (the early loss has the final one's surface)."""
    settings = tuning(trials=50)
    space = dimensions(settings)
    at, candidates = coordinates(space, design.points(settings)), grid(space)
    stream = numpy_stream(14, "worlds")
    halved, whole = [], []
    for _ in range(100):
        world = World(stream)
        truth = world.loss(candidates)
        early = world.loss(at) + stream.normal(scale=NOISE, size=50)
        late = early + stream.normal(scale=NOISE / 2, size=50)
        share = Halving(steps=100, every=10)

        def take(number: int, share: Halving = share, early: Array = early, late: Array = late) -> bool:
            finished = {"status": "finished", "loss": float(late[number])}
            found = share.train(run_spec(), Path(), lambda spec, folder: finished, lambda *run: float(early[number]))
            return found["loss"] is not None

        kept = [number for number in range(50) if take(number)]
        equal = range(round(25 + len(kept) / 2))
        for regrets, numbers in ((halved, kept), (whole, list(equal))):
            best = surface.fit(at[numbers], late[numbers], (0, 1, 2, 3)).cautious_optimum(candidates)
            regrets.append(truth[best] - truth.min())
    assert np.mean(whole) < np.mean(halved), (np.mean(whole), np.mean(halved))
