"""Trials that fail, and trials that take their job down with them: both are failed in the journal and replaced."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import optuna
import pytest

from evomix.artifacts import read_json, read_table
from evomix.errors import UserError
from evomix.specs import RunSpec
from evomix.tuning import design, trials
from test_tuning_trials import Quadratic, choose, no_pause, run_all, run_spec, tuning


def test_a_failed_trial_is_replaced_so_that_finished_budgets_are_equal(tmp_path: Path) -> None:
    """Whoever trains it: trial i is replaced by i + n, that by i + 2n; a tuning without faults needs none."""
    settings = tuning(trials=20)
    design.design(settings, tmp_path / "design.json")
    content = read_json(tmp_path / "design.json", "tuning_design")
    rates = {trial["number"]: trial["learning_rate"] for trial in [*content["trials"], *content["replacements"]]}
    assert sorted(rates.values()) == sorted(point["learning_rate"] for point in design.points(settings, 3))
    lost = {number for number, rate in rates.items() if rate > 3e-4}
    chains = [next((n for n in (i, i + 20, i + 40) if n not in lost), None) for i in range(20)]
    assert max(number for number in chains if number is not None) >= 40, "some replacement fails too"
    found = {}
    for name, workers in (("a", 1), ("b", 4)):
        train = Quadratic(diverges_above=3e-4)
        files = run_all(settings, tmp_path / name, train, workers)
        found[name] = choose(settings, tmp_path / name, files)
        table = read_table(tmp_path / name / "trials.parquet")
        assert set(table.loc[table["loss"].notna(), "number"]) == {number for number in chains if number is not None}
        assert len(train.calls) == len(table)
    assert found["a"] == found["b"]
    sound = choose(settings, tmp_path / "sound", run_all(settings, tmp_path / "sound", Quadratic()))
    assert sound["trials"] == found["a"]["trials"] == {"planned": 20, "finished": 20, "pruned": 0}
    assert sound["failures"] == {}
    assert found["a"]["spent_steps"] == 20 * len(table)

    short = [file for file in files if file.name != "worker_3.json"]
    with pytest.raises(UserError, match=r"trials \[3, 7, 11, 15, 19\] of .* have no result"):
        choose(settings, tmp_path / "b", short)


def run_until_killed(folder: Path, *, further: bool = False) -> int:
    """Run the only worker in a process of its own that trial 1 kills for real; return its exit code or −signal.

    With `further`, the trial writes a checkpoint before it dies.
    """
    child = os.fork()
    if child == 0:
        alone = Quadratic()

        def train(spec: RunSpec, place: Path) -> dict[str, Any]:
            if place.name == "trial_1":
                if further:
                    (place / "checkpoint").mkdir(exist_ok=True)
                    (place / f"checkpoint/step_{len(list((place / 'checkpoint').iterdir()))}.safetensors").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return alone(spec, place)

        output = folder / "worker_0.json"
        trials.run_trials(run_spec(), folder / "design.json", 0, 1, folder, output, train=train, pause=no_pause)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_trial_that_kills_its_job_is_failed_and_replaced_after_all_retries(tmp_path: Path) -> None:
    """A real SIGKILL, whenever trial 1 is trained: five deaths, then the last retry of the job goes on without it."""
    settings = tuning(trials=4)
    design.design(settings, tmp_path / "design.json")
    codes = [run_until_killed(tmp_path) for _ in range(trials.DEATHS + 1)]
    assert codes == [-signal.SIGKILL] * trials.DEATHS + [0]
    told = read_json(tmp_path / "worker_0.json", "tuning_worker")["trials"]
    assert [trial["number"] for trial in told] == [0, 1, 2, 3, 5]
    best = choose(settings, tmp_path, [tmp_path / "worker_0.json"])
    assert best["trials"] == {"planned": 4, "finished": 4, "pruned": 0}
    assert best["failures"] == {"1": "its job died 5 times without getting further"}
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal"))
    )
    states = [trial.state.name for trial in optuna.load_study(study_name=None, storage=storage).trials]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    before = (tmp_path / "worker_0.json").read_bytes()
    (tmp_path / "worker_0.json").unlink()
    assert run_until_killed(tmp_path) == 0
    assert (tmp_path / "worker_0.json").read_bytes() == before, "given up for good"
    assert [path.parent.name for path in tmp_path.rglob("deaths.json")] == ["trial_1"]


def test_a_trial_that_gets_further_is_not_given_up(tmp_path: Path) -> None:
    design.design(tuning(trials=4), tmp_path / "design.json")
    codes = [run_until_killed(tmp_path, further=True) for _ in range(trials.DEATHS + 2)]
    assert codes == [-signal.SIGKILL] * (trials.DEATHS + 2)
