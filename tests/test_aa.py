"""The A/A study: copies of the standard get noise of their own, and no comparison of them ends in a claim."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from conftest import copy_project
from evomix import copies
from evomix.artifacts import digest_file, read_json, write_json
from evomix.config import Config, load_config
from evomix.sections import aa_studies, aa_validation
from evomix.settings import Validation
from evomix.statistics import aa, validation
from statistics_study import noisy_loss, write_summary
from workflow_runs import snakemake

MIXER = "matrix_mixer"
ONE = f"frameworks=[{MIXER}]"


def config(root: Path, **changes: Any) -> Config:
    merged = yaml.safe_load((root / "config/config.yaml").read_text())
    update_config(merged, changes)
    return load_config(merged)


def test_every_study_has_variants_and_seeds_of_its_own(root: Path) -> None:
    study = config(root, validation={"aa_studies": 4})
    pairs = [copies.pair(number) for number in aa_studies(study)]
    assert pairs == [("standard", "copy1"), ("copy2", "copy3"), ("copy4", "copy5"), ("copy6", "copy7")]
    assert all(re.fullmatch(copies.PATTERN, name) for pair in pairs for name in pair if name != "standard")
    assert [copies.study_of(name) for pair in pairs for name in pair] == [1, 1, 2, 2, 3, 3, 4, 4]
    second = aa_validation(study, 2)
    assert second.pair(MIXER) == ("copy2", "copy3")
    assert (second.seeds, second.alpha) == (study.validation.seeds, study.validation.alpha)


def test_final_seeds_are_own_and_say_their_pair() -> None:
    assert copies.final_seeds("standard", [42, 43]) == copies.final_seeds("evolved", [42, 43]) == [42, 43]
    drawn = [copies.final_seeds(name, [42, 43]) for name in ("standard", "copy1", "copy2", "copy3")]
    assert len({seed for seeds in drawn for seed in seeds}) == 8
    assert all([copies.paired_seed(seed) for seed in seeds] == [42, 43] for seeds in drawn)


def test_trials_of_a_copy_have_noise_of_their_own() -> None:
    assert copies.trial_seed(7, "standard") == copies.trial_seed(7, "evolved") == 7
    drawn = {copies.trial_seed(7, f"copy{number}") for number in range(1, 30)}
    assert len(drawn | {7}) == 30
    assert copies.trial_seed(8, "copy1") not in drawn


def study(folder: Path, number: int, gain: float) -> Path:
    """Write one A/A study whose copies differ by `gain`, and return its validation."""
    pair = copies.pair(number)
    seeds = list(range(42, 52))
    settings = Validation(size="1M", seeds=seeds, reference={MIXER: pair[0]}, candidate={MIXER: pair[1]})
    loss = noisy_loss({MIXER: gain}, rng_seed=number)
    paths = [
        write_summary(folder, MIXER, variant, "1M", seed, loss(MIXER, role, "1M", seed))
        for variant, role in zip(pair, ("standard", "evolved"), strict=True)
        for seed in seeds
    ]
    law = folder / f"study_{number}/scaling.json"
    slope = {"standard": {"slope": {"mean": -0.2}}}
    write_json(law, "scaling", {"variants": slope, "sizes": [], "better_sizes": 0, "warnings": []})
    output = folder / f"study_{number}/validation"
    validation.validate(settings, [MIXER], paths, {MIXER: law}, output, tuning_policy="joint")
    return output / f"{MIXER}.json"


def test_claims_are_counted_and_named(tmp_path: Path) -> None:
    quiet = [study(tmp_path, number, 0.0) for number in (1, 2, 3)]
    aa.summarise(quiet, tmp_path / "aa.json")
    found = read_json(tmp_path / "aa.json", "aa")
    assert found["never_better"]
    assert found["words"] == {"better": 0, "worse": 0, "equivalent": 3, "inconclusive": 0}
    assert found["sentence"] == (
        "the standard against its own copy, 3 comparisons: 3 equivalent; none claims a difference"
    )
    assert [row["study"] for row in found["comparisons"]] == ["study_1", "study_2", "study_3"]
    assert found["comparisons"][1]["variants"] == {"standard": "copy2", "evolved": "copy3"}

    aa.summarise([*quiet, *(study(tmp_path, number, 0.05) for number in (4, 5, 6))], tmp_path / "broken.json")
    broken = read_json(tmp_path / "broken.json", "aa")
    assert not broken["never_better"]
    assert broken["false_claims"]["estimate"] == 0.5
    assert broken["false_claims"]["verdict"] == broken["false_rejections"]["verdict"] == "broken"
    assert "3 of them claim a difference that does not exist" in broken["sentence"]


@pytest.mark.slow
def test_the_standard_against_its_copy_through_every_phase(tmp_path: Path) -> None:
    """For real: trials and final trainings have noise of their own, whatever the policy; nothing is claimed."""
    project = copy_project(tmp_path / "evomix")
    results = project / "results/test"
    trials = 'tuning={"trials": 6, "learning_rate": [0.003, 0.5], "steps": 12}'
    studies = 'validation={"aa_studies": 2, "seeds": [42, 43, 44]}'
    snakemake(project, "results/test/aa.json", "--config", ONE, trials, studies)
    found = read_json(results / "aa.json", "aa")
    assert (found["provenance"]["tuning_policy"], found["provenance"]["tuning_budget"]["trials"]) == ("joint", 6)
    assert {row["verdict"]["word"] for row in found["comparisons"]} <= {"equivalent", "inconclusive"}
    assert not any(row["identical"] for row in found["comparisons"]), "an A/A study of equal runs tests nothing"
    assert not (results / f"evolution/{MIXER}/random").exists(), "no search is needed"
    assert digest_file(results / f"mechanisms/{MIXER}/copy1.py") == digest_file(
        results / f"mechanisms/{MIXER}/standard.py"
    )
    first = read_json(results / f"aa/study_1/validation/{MIXER}.json", "validation")
    assert first["seeds"] == [42, 43, 44]
    assert first["primary"]["tuning_error"] > 0
    assert f"{MIXER} compares copy1 against standard" in " ".join(first["protocol"]["departures"])
    own = read_json(results / f"tuning/{MIXER}/copy1/best.json", "tuning")
    other = read_json(results / f"tuning/{MIXER}/standard/best.json", "tuning")
    assert own["budget"] == other["budget"]
    assert own["luckiest"]["loss"] != other["luckiest"]["loss"]

    shared = trials.replace("{", '{"policy": "shared", ')
    snakemake(project, "results/test/aa.json", "--config", ONE, shared, studies)
    found = read_json(results / "aa.json", "aa")
    assert not any(row["identical"] for row in found["comparisons"]), "final trainings have noise of their own"
    assert all(row["tuning_error"] == 0 for row in found["comparisons"]), "one choice for both"
