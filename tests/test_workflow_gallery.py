"""The gallery in the workflow: its table, members that seed a search, members that stand as opponents."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from conftest import copy_project
from evomix.artifacts import read_json, write_json
from evomix.config import load_config
from evomix.errors import UserError
from evomix.mechanisms.members import members
from evomix.mechanisms.table import tabulate
from evomix.settings import Gallery
from statistics_study import write_summary
from workflow_runs import planned, snakemake

MIXER = "matrix_mixer"
ONE = f"frameworks=[{MIXER}]"
SEEDS = f'evolution={{"seed_members": {{{MIXER}: [ssd, toeplitz]}}}}'
OPPONENT = f'validation={{"reference": {{{MIXER}: ssd}}}}'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project without results."""
    return copy_project(tmp_path_factory.mktemp("gallery") / "evomix")


@pytest.fixture(scope="module")
def plain(project: Path) -> dict[str, int]:
    """Jobs of a study of one framework as the preset has it."""
    return planned(project, "--config", ONE)


def difference(jobs: dict[str, int], base: dict[str, int]) -> dict[str, int]:
    """Return rule → how many more jobs than in `base`, where any differ."""
    counts = {rule: jobs.get(rule, 0) - base.get(rule, 0) for rule in {**jobs, **base}}
    return {rule: count for rule, count in counts.items() if count}


def test_a_plain_study_trains_no_member(plain: dict[str, int]) -> None:
    assert not {"freeze_member", "train_member", "evaluate_member", "tabulate_gallery"} & set(plain)


def test_seed_members_are_frozen_and_evaluated_before_the_population(project: Path, plain: dict[str, int]) -> None:
    jobs = planned(project, "--config", ONE, SEEDS)
    assert difference(jobs, plain) == {"freeze_member": 2, "evaluate_member": 2}


def test_an_opponent_is_tuned_certified_and_trained_in_place_of_the_standard(
    project: Path, plain: dict[str, int]
) -> None:
    """The standard stays the search's baseline, with its own tuning and certificates; only its final runs go.

    One of its runs remains, for the certificate on trained weights.
    """
    jobs = planned(project, "--config", ONE, OPPONENT)
    added = ("freeze_member", "certify", "certify_trained", "run_trials", "choose_hyperparameters")
    assert difference(jobs, plain) == dict.fromkeys((*added, "write_run_spec", "train"), 1)
    shared = planned(project, "--config", ONE, OPPONENT, "tuning={policy: shared}")
    assert shared["run_trials"] == 1


def test_the_table_of_the_gallery_needs_no_search(project: Path) -> None:
    text = snakemake(project, "results/test/gallery.json", "-n", "-q", "rules", "host", "--config", ONE).stdout
    jobs = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", text, flags=re.MULTILINE)}
    count = len(members(MIXER))
    assert jobs["freeze_member"] == jobs["write_member_spec"] == jobs["train_member"] == count
    assert jobs["tabulate_gallery"] == 1
    assert not {"train", "evaluate", "propose", "certify"} & set(jobs)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"evolution": {"seed_members": {MIXER: ["mesa"]}}},
            "seed_members names 'mesa', which matrix_mixer lacks (it has cauchy, dynamic_toeplitz, linear, log_linear, "
            "quasiseparable, ssd, toeplitz)",
        ),
        ({"evolution": {"seed_members": {MIXER: ["softmax"]}}}, "names 'softmax', which matrix_mixer lacks"),
        ({"evolution": {"seed_members": {MIXER: ["ssd", "ssd"]}}}, "names a member of matrix_mixer twice"),
        ({"evolution": {"seed_members": {"mixer": ["ssd"]}}}, "'coefficient_dynamics', 'test_time_regression' or"),
        ({"validation": {"reference": {MIXER: "delta"}}}, "validation.reference names 'delta', which matrix_mixer"),
        ({"validation": {"reference": {MIXER: "evolved"}}}, "lacks (it has standard, cauchy"),
        ({"validation": {"candidate": {MIXER: "delta"}}}, "lacks (it has evolved, standard, cauchy"),
        ({"validation": {"candidate": {MIXER: "standard"}}}, "compares 'standard' with itself in matrix_mixer"),
        ({"gallery": {"size": "9k"}}, "gallery.size names size '9k', which `sizes` lacks"),
        ({"gallery": {"seed": 42}}, "seeds [42] stand in both"),
    ],
)
def test_every_fault_is_named(root: Path, change: dict[str, Any], sentence: str) -> None:
    merged = yaml.safe_load((root / "config/config.yaml").read_text())
    update_config(merged, yaml.safe_load((root / "config/presets/test.yaml").read_text()))
    update_config(merged, copy.deepcopy(change))
    with pytest.raises(UserError) as error:
        load_config(merged)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def table(folder: Path, losses: dict[str, float | None]) -> dict[str, Any]:
    """Return the table of members of one framework with the given losses, unigram entropy 2."""
    write_json(folder / "stats.json", "corpus", {"unigram_entropy": 2.0})
    paths = []
    for member, loss in losses.items():
        paths.append(write_summary(folder, MIXER, member, "1M", 7, loss))
        times = {"tokens_per_second": 5.0, "peak_memory_bytes": 8.0, "seconds": 1.0, "device": "cpu"}
        write_json(paths[-1].with_name("timing.json"), "timing", times)
    tabulate(Gallery(size="1M", steps=100), paths, folder / "stats.json", folder / "gallery.json")
    return read_json(folder / "gallery.json", "gallery")


def test_the_table_says_who_failed_and_keeps_measured_times_apart(tmp_path: Path) -> None:
    found = table(tmp_path, {"softmax": 1.5, "linear": 1.8, "ssd": None, "cauchy": 2.5})
    assert found["not_beating_unigram"] == [f"{MIXER}/ssd", f"{MIXER}/cauchy"]
    rows = {row["member"]: row for row in found["members"]}
    assert rows["linear"]["against_softmax"]["loss"] == pytest.approx(1.2)
    assert rows["ssd"]["against_softmax"]["loss"] is None
    assert rows["ssd"]["status"] == "diverged"
    assert "seconds" not in (tmp_path / "gallery.json").read_text()
    timing = read_json(tmp_path / "gallery_timing.json", "gallery_timing")
    assert timing["members"][1]["against_softmax"] == {"tokens_per_second": 1.0, "peak_memory_bytes": 1.0}


def test_a_table_without_softmax_costs_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training of softmax of matrix_mixer among those given"):
        table(tmp_path, {"linear": 1.8})


@pytest.mark.slow
def test_every_member_trains_and_beats_the_unigram_entropy(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "evomix")
    snakemake(project, "results/test/gallery.json", "results/test/figures/study/gallery.svg", "--config", ONE)
    found = read_json(project / "results/test/gallery.json", "gallery")
    rows = {row["member"]: row for row in found["members"]}
    assert set(rows) == set(members(MIXER))
    assert found["not_beating_unigram"] == []
    assert found["provenance"]["tuning_budget"]["trials"] == 4
    assert all(row["status"] == "finished" and row["loss"] < found["unigram_entropy"] for row in rows.values())
    assert set(rows["softmax"]["against_softmax"].values()) == {1.0}
    assert rows["ssd"]["mechanism_parameters"] > rows["softmax"]["mechanism_parameters"]
    timing = read_json(project / "results/test/gallery_timing.json", "gallery_timing")
    assert all(row["tokens_per_second"] > 0 and row["peak_memory_bytes"] > 0 for row in timing["members"])
    before = (project / "results/test/gallery.json").read_bytes()
    snakemake(project, "results/test/gallery.json", "--config", ONE, "--forcerun", "train_member", "tabulate_gallery")
    assert (project / "results/test/gallery.json").read_bytes() == before


@pytest.mark.slow
def test_evolved_against_an_expert_from_expert_seeds(tmp_path: Path) -> None:
    """Candidates may descend from members, and every claim names the variants that it compares."""
    project = copy_project(tmp_path / "evomix")
    snakemake(project, "all", "--config", ONE, SEEDS, OPPONENT)
    results = project / "results/test"
    record = read_json(results / f"validation/{MIXER}.json", "validation")
    assert record["variants"] == {"standard": "ssd", "evolved": "evolved"}
    assert "winners_curse" not in record
    assert (
        f"{MIXER} compares evolved against ssd, registered evolved against standard" in record["protocol"]["departures"]
    )
    tell = read_json(results / f"evolution/{MIXER}/random/wave_0/tell.json", "tell")
    accepted = {
        name
        for name in ("ssd", "toeplitz")
        if read_json(results / f"evolution/{MIXER}/seeds/{name}/evaluation.json", "evaluation")["status"] == "accepted"
    }
    assert {seed["name"] for seed in tell["seeds"]} == {"standard", *accepted}
    curves = (results / f"figures/{MIXER}/training_curves.csv").read_text().splitlines()
    assert len(curves) > 1
    # One run of the standard remains: for its certificate on trained weights.
    assert len(list((results / f"training/{MIXER}/standard").glob("*/seed_*"))) == 1
