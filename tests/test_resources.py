"""What jobs ask for follows model sizes, steps, runs and attempt, and no more than the sandbox or the profile needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from evomix import resources
from evomix.config import Config, load_config
from evomix.plan.jobs import merged


@pytest.fixture(scope="module")
def paper() -> Config:
    return load_config(merged("paper"))


def changed(**training: object) -> Config:
    content = merged("paper")
    return load_config({**content, "training": {**content["training"], **training}})


def test_run_time_grows_with_size_steps_runs_and_attempt(paper: Config) -> None:
    small, large = resources.training(paper, "0.5M"), resources.training(paper, "4M")
    assert small.minutes() < large.minutes()
    assert resources.training(changed(steps=200_000), "4M").minutes() > 1.7 * large.minutes()
    assert large.minutes(2) == 2 * large.minutes()
    baseline, candidates = (resources.judgement(paper, role) for role in ("baseline", "candidates"))
    assert baseline.minutes() > 7 * candidates.minutes()  # eight seeds against one
    assert resources.trials(paper).minutes() > large.minutes()


def test_no_job_asks_for_more_time_than_the_profile_allows(paper: Config) -> None:
    baseline = resources.judgement(paper, "baseline")
    assert baseline.minutes() > 600
    assert baseline.minutes(1, 600) == baseline.minutes(3, 600) == 600
    assert resources.training(paper, "4M").minutes(1, 600) == resources.training(paper, "4M").minutes()


def test_memory_grows_with_the_step_on_a_cpu_and_with_the_attempt() -> None:
    cpu = changed(device="cpu")
    small, large = resources.training(cpu, "0.5M"), resources.training(cpu, "4M")
    assert 2_000 < small.memory_mb() < large.memory_mb() < 64_000
    assert large.memory_mb(3) == 3 * large.memory_mb()


def test_candidates_get_the_sandbox_limit_so_that_the_sandbox_ends_them_first(paper: Config) -> None:
    content = merged("test")
    test = load_config(content)
    wide = load_config({**content, "sandbox": {"memory_gb": 20.0}})
    for config in (paper, test):
        assert resources.judgement(config, "candidates").memory_mb() > 1_024 * config.sandbox.memory_gb + 1_000
    assert resources.judgement(wide, "finalists").memory_mb() > 20_480 > resources.training(wide, "2k").memory_mb()


def test_probes_ablation_and_reading_follow_their_own_settings(paper: Config) -> None:
    content = merged("paper")
    longer = load_config({**content, "probes": {**content["probes"], "steps": 50_000}})
    assert resources.probes(longer).minutes() > 2.5 * resources.probes(paper).minutes()
    shared = load_config({**content, "ablation": {**content["ablation"], "workers": 2}})
    assert resources.ablated(shared).minutes() > 4 * resources.ablated(paper).minutes()
    cpu = changed(device="cpu")
    assert resources.longer_contexts(cpu).minutes(2) == 2 * resources.longer_contexts(cpu).minutes()
    assert resources.longer_contexts(cpu).memory_mb() < 64_000  # one batch holds as many tokens at every length
    few = load_config({**content, "ablation": {**content["ablation"], "edits": 2}})
    assert resources.splitting(paper).minutes() > resources.splitting(few).minutes()
    assert resources.splitting(paper).memory_mb() > 1_024 * paper.sandbox.memory_gb


def test_every_cluster_rule_with_resources_asks_for_more_when_tried_again(root: Path) -> None:
    for path in (root / "workflow/rules").glob("*.smk"):
        for rule in path.read_text().split("\nrule ")[1:]:
            asked = rule.partition("    resources:")[2].partition("    params:")[0]
            name = rule.partition(":")[0]
            if asked and name != "probe_heavy":
                assert "mem_mb=lambda wildcards, attempt" in asked, name
                assert "runtime=lambda wildcards, attempt" in asked, name


def test_small_trainings_are_packed_whatever_rule_trains(root: Path) -> None:
    """Every rule that may ask for a GPU has its group in profiles/packed, but for the standard's two evaluations."""
    packed = yaml.safe_load((root / "profiles/packed/config.yaml").read_text())
    grouped = {entry.partition("=")[0] for entry in packed["groups"]}
    rules = [
        text.partition(":")[0]
        for path in (root / "workflow/rules").glob("*.smk")
        for text in path.read_text().split("\nrule ")[1:]
        if "gpu=GPUS" in text
    ]
    assert len(rules) > 8
    told = (root / "profiles/README.md").read_text()
    assert [
        rule for rule in rules if rule != "probe_heavy" and f"`{rule}`" not in told and f"{{{rule}:" not in told
    ] == []
    assert set(rules) - grouped == {"evaluate_standard", "evaluate_member", "train_member", "probe_heavy"}
    sized = {entry.rpartition("=")[0] for entry in packed["group-components"]}
    assert sized == {entry.partition("=")[2] for entry in packed["groups"]}
