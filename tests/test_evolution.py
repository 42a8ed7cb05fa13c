"""The search on files: waves, stop rules, candidates that misbehave, finalists, lineage, equality to the byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evolution_study import FRAMEWORKS, Search, files, gate, judged, search_spec, standard, train
from evomix.artifacts import read_json
from evomix.errors import UserError
from evomix.evolution import freeze, tell
from evomix.evolution.evaluate import evaluate
from evomix.evolution.records import read_slot
from evomix.settings import Framework, Proposing
from evomix.specs import RunSpec

HERE = Path(__file__).resolve().parent


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_random_arm_end_to_end(tmp_path: Path, framework: Framework) -> None:
    """A search finds candidates, freezes the best re-ranked one, and tells who came from whom."""
    search = Search(tmp_path, framework).run(5)
    selection = search.finish(5)
    assert selection["found"] is True
    source = (search.home / "selected.py").read_text()
    assert "EVOLVE-BLOCK-START" in source
    finalists = read_json(search.home / "finalists.json", "finalists")["finalists"]
    assert source in [item["source"] for item in finalists]
    best = max(selection["finalists"], key=lambda item: item["fitness"])
    assert selection["chosen"]["id"] == best["id"]
    history = pd.read_parquet(search.home / "history.parquet")
    assert len(history) == 15
    assert history["candidate"].is_unique
    assert history["best_fitness"].is_monotonic_increasing
    accepted = history[history["status"] == "accepted"]
    assert finalists[0]["search_fitness"] == accepted["fitness"].max()
    spread = accepted["fitness"].mean()
    for item in finalists:
        assert abs(item["shrunken_fitness"] - spread) < abs(item["search_fitness"] - spread)
    lineage = read_json(search.home / "lineage.json", "lineage")
    nodes = {node["id"]: node for node in lineage["nodes"]}
    for node in nodes.values():
        if node["kind"] == "candidate":
            assert node["parent"] in nodes
            assert node["diff_to_parent"].startswith("--- parent")
            assert node["diff_to_standard"]
    assert nodes[lineage["best_path"][0]]["kind"] == "seed"
    assert (search.home / "lineage.mmd").read_text().startswith("flowchart LR")
    readable = (search.home / "lineage.md").read_text()
    assert [line.split(":")[0] for line in readable.splitlines() if line.startswith("## ")] == [
        f"## No. {number}" for number in range(1, 16)
    ]
    assert readable.count("    --- parent") == readable.count("    --- standard") == 15


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from evolution_study import Search
search = Search(Path({folder!r}))
search.run({waves}, order={order})
search.evaluations.sort()
search.finish({waves})
"""


@pytest.mark.parametrize(("hash_seed", "order", "cores"), [("1", [2, 1, 0], "1"), ("12345", [1, 2, 0], "4")])
def test_searches_are_equal_to_the_byte(tmp_path: Path, hash_seed: str, order: list[int], cores: str) -> None:
    """Another hash seed, another order of jobs and other cores give the same files."""
    reference = Search(tmp_path / "here").run(4)
    reference.evaluations.sort()
    reference.finish(4)
    script = SCRIPT.format(here=str(HERE), folder=str(tmp_path / "there"), waves=4, order=order)
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": cores}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    expected = files(tmp_path / "here")
    assert len(expected) > 60
    assert files(tmp_path / "there") == expected


def test_interrupted_and_longer_searches(tmp_path: Path) -> None:
    """Jobs done twice change nothing, and more waves leave the earlier ones as they are."""
    search = Search(tmp_path / "short").run(2)
    before = files(search.home)
    search.propose(2)
    search.evaluate(2, [1])
    tell.tell(
        search.proposing,
        "coefficient_dynamics",
        "random",
        2,
        search.population(1),
        search.evaluate(2),
        search.population(2),
    )
    assert files(search.home) == before
    search.run(3, first=3)
    after = files(search.home)
    assert {name: after[name] for name in before} == before
    direct = Search(tmp_path / "long").run(3)
    assert files(direct.home) == after


def test_no_duplicate_reaches_training(tmp_path: Path) -> None:
    """Over a long search every candidate is new by its syntax tree, siblings and seeds included."""
    search = Search(tmp_path).run(8)
    digests = [outcome["identity"] for outcome in search.state(8)["outcomes"] if outcome["check"] != "proposal"]
    digests += [seed["identity"] for seed in search.state(0)["seeds"]]
    assert len(digests) >= 23
    assert len(set(digests)) == len(digests)


def test_patience_stops_and_later_waves_train_nothing(tmp_path: Path) -> None:
    """After the stop, later waves have all their files, proposals say why, and nothing is trained."""
    proposing = Proposing(wave_size=3, population=8, patience=4, max_invalid=50)

    def flat(spec: RunSpec, folder: Path) -> dict[str, Any]:
        folder.mkdir(parents=True)
        return train(spec.model_copy(update={"mechanism": worse}), folder)

    search = Search(tmp_path, proposing=proposing)
    worse = search_run_mechanism()
    search.train = flat
    search.run(4)
    assert "no improvement for 6 candidates" in search.state(2)["stopped"]
    assert search.proposal(3, 0)["status"] == "stopped"
    assert not (search.home / "wave_3" / "slot_0" / "training").exists()
    assert search.state(4)["evaluated"] == 6
    assert search.state(4)["stopped"] == search.state(2)["stopped"]
    search.finish(4)
    assert len(pd.read_parquet(search.home / "history.parquet")) == 6


def search_run_mechanism() -> Any:
    from evomix.specs import MechanismReference

    return MechanismReference(path=str(standard("coefficient_dynamics")), digest="none")


def test_invalid_candidates_in_a_row_stop(tmp_path: Path) -> None:
    proposing = Proposing(wave_size=3, population=8, patience=100, max_invalid=5)
    search = Search(tmp_path, proposing=proposing)
    search.gate = lambda path: {"accepted": False, "checks": [{"check": "C1", "passed": False, "hint": "Leaks."}]}
    search.run(2)
    assert search.state(1)["stopped"] is None
    assert search.state(2)["stopped"] == "6 invalid candidates in a row (limit 5)"
    selection = search.finish(2)
    assert selection["found"] is False
    assert "none of 6 candidates was accepted" in selection["reason"]
    assert (search.home / "selected.py").read_bytes() == standard("coefficient_dynamics").read_bytes()


def test_mostly_nan_stops(tmp_path: Path) -> None:
    proposing = Proposing(wave_size=3, population=8, patience=100, max_invalid=5)
    search = Search(tmp_path, proposing=proposing)
    search.train = lambda spec, folder: {"status": "diverged", "reason": "loss is NaN at step 3", "loss": None}
    search.run(2)
    assert search.state(2)["stopped"] == "6 of 6 candidates diverged"
    assert search.state(2)["invalid_in_a_row"] == 0


def test_misbehaving_candidates_become_records(tmp_path: Path) -> None:
    """Raising, diverging, refused and silent candidates: a status and a reason without paths or addresses."""

    def raising(spec: RunSpec, folder: Path) -> dict[str, Any]:
        raise RuntimeError(f"shape mismatch in {folder}/x at 0x7f12 of {spec.mechanism.path}")

    record = judged(tmp_path / "a", train=raising)
    assert (record["status"], record["check"], record["fitness"]) == ("failed", "training", None)
    assert "shape mismatch" in record["reason"]
    assert str(tmp_path) not in record["reason"]
    assert "0x7f12" not in record["reason"]
    nan = {"status": "finished", "reason": None, "loss": None}
    assert judged(tmp_path / "b", train=lambda spec, folder: nan)["status"] == "diverged"
    timeout = {"status": "timeout", "reason": "took longer than 60 s", "loss": None}
    assert judged(tmp_path / "c", train=lambda spec, folder: timeout)["status"] == "failed"
    refused = {"accepted": False, "checks": [{"check": "G2", "passed": False, "hint": "Do not look ahead."}]}
    record = judged(tmp_path / "d", gate=lambda path: refused)
    assert (record["status"], record["check"], record["reason"]) == ("refused", "G2", "G2: Do not look ahead.")
    assert read_json(tmp_path / "d" / "slot" / "gate.json", "gate")["accepted"] is False


def test_faults_of_the_machine_are_not_the_candidates(tmp_path: Path) -> None:
    def missing(spec: RunSpec, folder: Path) -> dict[str, Any]:
        raise UserError("missing corpus")

    with pytest.raises(UserError, match="missing corpus"):
        judged(tmp_path, train=missing)


def test_the_standard_as_a_candidate_gains_nothing(tmp_path: Path) -> None:
    """A/A: paired with itself the gain is exactly zero, the score one half."""
    record = judged(tmp_path)
    assert record["status"] == "accepted"
    assert record["gain"] == 0.0
    assert record["score"] == 0.5
    assert record["slope"] == record["standard"]["slope"]


def test_known_effects_move_fitness_in_both_directions(tmp_path: Path) -> None:
    """A mechanism better at large sizes scores above one half, a worse one below; the guard stops the fake."""

    def shifted(small: float, large: float) -> Any:
        def judge(spec: RunSpec, folder: Path) -> dict[str, Any]:
            summary = train(spec, folder)
            return {**summary, "loss": summary["loss"] + (small if spec.size == "small" else large)}

        return judge

    good = judged(tmp_path / "good", train=shifted(0.0, -0.04))
    bad = judged(tmp_path / "bad", train=shifted(0.0, 0.04))
    fake = judged(tmp_path / "fake", train=shifted(0.3, 0.0))
    assert good["score"] > 0.75 > 0.25 > bad["score"]
    assert good["gain"] == pytest.approx(0.02)
    assert (fake["status"], fake["check"]) == ("refused", "guard")
    assert fake["slope"] < fake["standard"]["slope"]


def test_hopeless_candidates_stop_after_the_small_size(tmp_path: Path) -> None:
    """Where no loss of the larger size could lift the gain above the guard, it is not trained."""
    trained = []

    def hopeless(spec: RunSpec, folder: Path) -> dict[str, Any]:
        trained.append(spec.size)
        return {**train(spec, folder), "loss": 9.0}

    record = judged(tmp_path, train=hopeless)
    assert trained == ["small"]
    assert (record["status"], record["check"]) == ("refused", "guard")
    assert "cannot exceed" in record["reason"]


def test_baseline_needs_every_seed_and_shard(tmp_path: Path) -> None:
    search = Search(tmp_path)
    baseline, candidate = search.root / "baseline" / "evaluation.json", standard("coefficient_dynamics")
    judges: dict[str, Any] = {"train": train, "gate": gate}
    with pytest.raises(UserError, match="does not cover seed 99"):
        evaluate(search_spec("coefficient_dynamics", [99]), candidate, baseline, tmp_path / "x", **judges)
    with pytest.raises(UserError, match="does not cover shard selection"):
        evaluate(search_spec("coefficient_dynamics", [7], "selection"), candidate, baseline, tmp_path / "x", **judges)
    refuse = {"accepted": False, "checks": []}
    with pytest.raises(UserError, match="cannot be evaluated"):
        evaluate(search.spec, candidate, None, tmp_path / "y", train=train, gate=lambda path: refuse)
    noise = read_json(baseline, "evaluation")["noise"]
    assert noise["repeats"] == 4
    assert noise["slope"] > 0
    assert noise["gain"] > 0


def test_finalists_are_measured_on_fresh_ground(tmp_path: Path) -> None:
    search = Search(tmp_path).run(2)
    search.finish(2)
    again = read_json(search.home / "finalist_1" / "evaluation.json", "evaluation")
    assert again["shard"] == "selection"
    assert all(set(seeds) == {"21", "22"} for seeds in again["losses"].values())
    with pytest.raises(UserError, match="shard `selection`"):
        freeze.rerank(
            search.spec,
            search.home / "finalists.json",
            1,
            search.root / "baseline" / "evaluation.json",
            tmp_path / "x",
            train=train,
            gate=gate,
        )


def test_a_finalist_whose_loss_does_not_stand_is_refused(tmp_path: Path) -> None:
    """The audit decides after the training; the best of the others is then frozen."""
    search = Search(tmp_path).run(2)
    home, asked = search.home, []
    search.finish(2)

    def audit(spec: Path) -> dict[str, Any]:
        asked.append(spec)
        return {"loss": 9.0, "reported": 3.0, "checks": [], "passed": False, "reason": "The loss is another."}

    judges: dict[str, Any] = {"train": train, "gate": gate, "audit": audit}
    baseline = search.root / "finalists" / "evaluation.json"
    freeze.rerank(search.finalists, home / "finalists.json", 1, baseline, home / "finalist_1", **judges)
    record = read_json(home / "finalist_1" / "evaluation.json", "evaluation")
    assert (record["status"], record["check"], record["fitness"]) == ("refused", "rescore", None)
    assert asked == [home / "finalist_1" / "training" / "large" / "seed_21" / "spec.json"]
    again = [home / f"finalist_{rank}" / "evaluation.json" for rank in (1, 2)]
    frozen = (home / "finalists.json", again, standard("coefficient_dynamics"), home / "selection.json")
    freeze.freeze(search.finalists, *frozen, home / "selected.py")
    assert read_json(home / "selection.json", "selection")["chosen"]["rank"] == 2


def test_gain_as_fitness(tmp_path: Path) -> None:
    search = Search(tmp_path, fitness="gain").run(3)
    accepted = [outcome for outcome in search.state(3)["outcomes"] if outcome["status"] == "accepted"]
    assert accepted
    assert all(outcome["fitness"] == outcome["gain"] for outcome in accepted)


@pytest.mark.slow
def test_lineage_stays_readable_at_200_candidates(tmp_path: Path) -> None:
    """The graph shows the best candidates' ancestry and counts the rest; all 200 are in the table."""
    proposing = Proposing(wave_size=20, population=20, patience=500, max_invalid=500)
    search = Search(tmp_path, proposing=proposing).run(10)
    search.finish(10)
    assert len(pd.read_parquet(search.home / "history.parquet")) == 200
    lines = (search.home / "lineage.mmd").read_text().splitlines()
    nodes = [line for line in lines if '["' in line]
    assert len(nodes) <= 80
    assert all(len(line) < 140 for line in lines)
    assert any("more" in line for line in nodes)


def test_cut_files_are_one_sentence(tmp_path: Path) -> None:
    search = Search(tmp_path).run(1)
    program = next((search.population(1) / "programs").glob("*.json"))
    program.unlink()
    with pytest.raises(UserError, match="lacks program"):
        search.propose(2)
    (search.population(1) / "metadata.json").write_text("{")
    with pytest.raises(UserError, match="not a saved population"):
        search.propose(2)
    proposal = search.home / "wave_1" / "slot_0" / "proposal.json"
    content = json.loads(proposal.read_text())
    proposal.write_text(json.dumps({**content, "candidate": "other"}))
    with pytest.raises(UserError, match="judges another candidate"):
        read_slot(proposal.with_name("evaluation.json"))
