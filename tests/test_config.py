"""The config: presets are valid, faults are named, and the generated reference is true."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from evomix import reference
from evomix.config import load_config
from evomix.errors import UserError
from evomix.figures import catalogue
from evomix.sections import sections

PRESETS = ("paper", "pilot", "demo", "test")


def raw(root: Path, preset: str) -> dict[str, Any]:
    """Return the merged mapping of a preset, as Snakemake merges it."""
    merged = yaml.safe_load((root / "config/config.yaml").read_text())
    if preset != "paper":
        update_config(merged, yaml.safe_load((root / f"config/presets/{preset}.yaml").read_text()))
    return merged


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid_and_named(root: Path, preset: str) -> None:
    assert load_config(raw(root, preset)).preset == preset


def test_the_paper_preset_is_the_protocol(root: Path) -> None:
    study = load_config(raw(root, "paper"))
    assert (study.training.steps, study.corpus.vocabulary, study.corpus.sequence_length) == (100_000, 16_384, 128)
    assert study.validation.seeds == list(range(42, 52))
    assert (study.evolution.iterations, study.evolution.population, study.evolution.archive) == (35, 20, 10)
    assert (study.evolution.islands, study.evolution.elite_ratio, study.evolution.llm.temperature) == (2, 0.3, 0.8)
    assert study.tuning.policy == "joint"
    assert 50 <= study.tuning.trials <= 100
    assert study.tuning.steps == 50_000
    base = study.sizes["base"]
    assert (base.width, base.layers, base.heads) == (128, 6, 4)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (
            ("corpus", "vocabulery"),
            512,
            "unknown key `corpus.vocabulery`; the nearest valid key is `corpus.vocabulary`",
        ),
        (("evolution", "llm", "modell"), 1, "nearest valid key is `evolution.llm.models`"),
        (("trainng",), {}, "the nearest valid key is `training`"),
        (("tuning", "policy"), "both", "`tuning.policy` is 'both'"),
        (("frameworks",), ["matrix_mixer", "matrix_mixer"], "frameworks names one twice"),
        (("sizes", "1M", "heads"), 7, "heads (7) must divide width (96)"),
        (("sizes", "1M", "layers"), 5, "off the target 1,000,000 (limit 3 %)"),
        (("validation", "size"), "3B", "validation.size names size '3B'"),
        (("evolution", "finalist_seeds"), [7], "finalist_seeds must be fresh"),
        (("evolution", "baseline_seeds"), [8, 9], "must begin with seeds"),
    ],
)
def test_every_fault_is_named(root: Path, path: tuple[str, ...], value: Any, sentence: str) -> None:
    merged = copy.deepcopy(raw(root, "paper"))
    place = merged
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = value
    with pytest.raises(UserError) as error:
        load_config(merged)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_longer_search_changes_no_section_that_waves_read(root: Path) -> None:
    merged = raw(root, "paper")
    before = sections(load_config(merged))
    merged["evolution"]["iterations"] = 70
    after = sections(load_config(merged))
    assert before == after


def test_generated_reference_is_true(root: Path) -> None:
    hint = "run `python -m evomix write-reference`"
    assert (root / "config/README.md").read_text() == reference.options_table(), hint
    assert (root / "workflow/schemas/config.schema.json").read_text() == reference.json_schema(), hint
    assert (root / "workflow/report/figure.rst").read_text() == catalogue.captions(), hint
