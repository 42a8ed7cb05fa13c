"""What jobs ask for follows model sizes, steps, runs and attempt, and no more than the sandbox or the profile needs."""

from __future__ import annotations

import pytest

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
