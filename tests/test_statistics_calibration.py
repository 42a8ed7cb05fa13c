"""Calibration: simulated worlds are what they say, the tuner is the workflow's, and broken promises are seen."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from evomix.artifacts import read_json, write_json
from evomix.settings import Tuning, Validation
from evomix.statistics import calibration, calibration_rows, paired_study, tuning_noise
from evomix.statistics.error_rates import Promise, clopper_pearson, mean, rate
from evomix.statistics.paired import paired_t
from evomix.statistics.simulated_tuning import Tuner
from evomix.statistics.simulation import World
from evomix.statistics.winners_curse import simulate_search
from evomix.streams import numpy_stream
from evomix.tuning import choice
from evomix.tuning.search_space import NAMES

FRAMEWORKS = ["coefficient_dynamics", "test_time_regression", "matrix_mixer"]
TEN = Validation(size="base", seeds=list(range(42, 52)))


def run(folder, studies, trials=12, validation=TEN):
    output = folder / "calibration.json"
    tuning = Tuning(size="base", trials=trials, steps=100)
    calibration.calibrate(validation, FRAMEWORKS, tuning, output, studies=studies)
    result = read_json(output, "calibration")
    return result, {row["name"]: row for row in result["table"]}


def test_small_calibration_keeps_its_promises(tmp_path):
    result, rows = run(tmp_path, studies=40)
    assert result["broken"] == []
    assert result["studies"] == 40
    assert all(row["verdict"] or row["promise"] == "shown for contrast" for row in rows.values())
    naive = rows["false rejections, retrained at the luckiest trial"]["estimate"]
    assert naive > rows["false rejections, full protocol, tuning included"]["estimate"] + 0.1
    assert rows["null search: gain the search claims (σ)"]["estimate"] == pytest.approx(2.1, abs=0.3)
    assert sum(result["figure"]["p_histogram"]) == 40
    assert [point["d_z"] for point in result["figure"]["power_curve"]] == list(calibration_rows.EFFECTS)


def test_calibration_of_two_seeds_does_not_crash_and_repeats_to_the_byte(tmp_path):
    two = Validation(size="base", seeds=[1, 2])
    result, rows = run(tmp_path, 12, trials=4, validation=two)
    first = (tmp_path / "calibration.json").read_bytes()
    run(tmp_path, 12, trials=4, validation=two)
    assert (tmp_path / "calibration.json").read_bytes() == first
    assert rows["false rejections, Wilcoxon"]["estimate"] == 0
    assert "NaN" not in json.dumps(result)


@pytest.mark.slow
def test_full_calibration(tmp_path):
    result, rows = run(tmp_path, studies=2_000, trials=50)
    assert result["broken"] == []
    assert rows["false rejections, full protocol, tuning included"]["estimate"] <= 0.07
    assert rows["coverage of the interval of the mean"]["estimate"] == pytest.approx(0.95, abs=0.02)
    for point in result["figure"]["power_curve"]:
        assert point["simulated"] == pytest.approx(point["formula"], abs=0.03)


def test_an_analysis_that_rejects_too_often_is_caught(tmp_path, monkeypatch):
    """The same simulated studies, analysed with half the standard error: the table must say so."""
    honest = paired_study.paired_t

    def careless(difference, alpha=0.05, shared_variance=0.0):
        return honest((difference + difference.mean()) / 2, alpha, shared_variance)

    monkeypatch.setattr(paired_study, "paired_t", careless)
    result, _ = run(tmp_path, studies=60, trials=4)
    assert "false rejections, hyper-parameters known" in result["broken"]
    assert "coverage of the interval of the mean" in result["broken"]


def test_rates_have_exact_intervals_and_verdicts():
    from statsmodels.stats.proportion import proportion_confint

    for hits, trials in ((0, 20), (3, 50), (50, 50)):
        assert clopper_pearson(hits, trials) == pytest.approx(proportion_confint(hits, trials, method="beta"), abs=1e-9)
    limit = Promise("at most 0.05", high=0.05)
    assert rate("r", [True] * 4 + [False] * 96, limit)["verdict"] == "holds"
    assert rate("r", [True] * 8 + [False] * 92, limit)["verdict"] == "holds within Monte-Carlo error"
    assert rate("r", [True] * 20 + [False] * 80, limit)["verdict"] == "broken"
    assert rate("r", [True] * 20, None)["verdict"] is None
    assert mean("m", np.arange(10.0), None)["estimate"] == 4.5


def test_worlds_have_the_spread_they_state():
    world, rng = World(), np.random.default_rng(0)
    standard, evolved = world.finals(rng, 40_000, gain=0.01)
    assert np.std(standard) == pytest.approx(world.seed_sd, rel=0.02)
    assert np.corrcoef(standard, evolved)[0, 1] == pytest.approx(world.correlation, abs=0.02)
    assert np.std(standard - evolved) == pytest.approx(world.difference_sd, rel=0.02)
    assert np.mean(standard - evolved) == pytest.approx(0.01, abs=1e-4)
    assert np.std(World(degrees=3).noise(rng, (400_000,))) == pytest.approx(1, rel=0.1)
    lost, _ = World(divergence=0.2).finals(rng, 10_000)
    assert np.mean(np.isnan(lost)) == pytest.approx(0.2, abs=0.02)
    paid, _ = world.finals(rng, 40_000, 0.0, (0.01, 0.0))
    assert paid.mean() == pytest.approx(world.level + 0.01, abs=1e-4)


def test_simulated_tuner_chooses_what_the_workflow_chooses(tmp_path):
    tuning = Tuning(size="base", trials=20, steps=100)
    tuner, world = Tuner.of(tuning), World()
    rng = np.random.default_rng(1)
    losses = world.trials(rng, tuner.points_TD, world.optima(rng))[0]
    from evomix.tuning.design import design

    design(tuning, tmp_path / "design.json")
    trials = [
        {
            "number": number,
            "loss": float(loss),
            "status": "finished",
            "reason": None,
            "spec_digest": "0",
            "steps": 100,
            "rungs": {},
        }
        for number, loss in enumerate(losses)
    ]
    write_json(
        tmp_path / "worker_0.json",
        "tuning_worker",
        {
            "framework": "matrix_mixer", "variant": "standard", "size": "base", "worker": 0, "trials": trials,
            "design": choice.digest_file(tmp_path / "design.json"),
        },
    )  # fmt: skip
    best = tmp_path / "best.json"
    choice.choose(tuning, tmp_path / "design.json", [tmp_path / "worker_0.json"], best, policy="joint")
    chosen = read_json(best, "tuning")
    fitted = tuner.fit(losses)
    index = fitted.cautious_optimum(tuner.grid_GD)
    regret = tuner.regret(fitted, index, numpy_stream(0, "test"), draws=400)
    space = choice.dimensions(tuning)
    assert [chosen["chosen"][name] for name in NAMES] == [
        dimension.value(float(place)) for dimension, place in zip(space, tuner.grid_GD[index], strict=True)
    ]
    assert regret == pytest.approx(chosen["expected_regret"], rel=0.25)
    assert tuning_noise.expected_regrets({"standard": best}, "joint") == {"standard": chosen["expected_regret"]}
    assert tuning_noise.expected_regrets({"standard": best}, "shared") is None


def test_noise_shared_by_all_seeds_widens_the_test():
    difference = np.array([0.4, 1.1, 0.9, 1.6, 0.2])
    plain, wider = paired_t(difference), paired_t(difference, shared_variance=0.2)
    own = np.var(difference, ddof=1) / 5
    assert wider.error == pytest.approx(math.sqrt(own + 0.2))
    assert wider.df == pytest.approx(4 * (own + 0.2) ** 2 / (own**2 + 0.04))
    assert 4 <= wider.df <= 8
    assert wider.p > plain.p
    assert wider.low < plain.low
    assert wider.sd == plain.sd
    assert paired_t(np.zeros(5), shared_variance=0.2).p == 1.0
    assert tuning_noise.variance([0.002, 0.001]) == pytest.approx(0.2 * 5e-6)


def test_the_widened_test_is_welchs_as_scipy_computes_it():
    """An error that all seeds share enters as the mean of a second sample of n centred values would (Welch 1947)."""
    first, second = np.random.default_rng(4).normal([[0.8], [0.0]], [[1.0], [0.7]], size=(2, 10))
    second -= second.mean()
    found = paired_t(first, 0.05, float(np.var(second, ddof=1)) / 10)
    welch = stats.ttest_ind(first, second, equal_var=False)
    assert (found.t, found.df, found.p) == pytest.approx((welch.statistic, welch.df, welch.pvalue))
    assert (found.low, found.high) == pytest.approx(tuple(welch.confidence_interval(0.95)))


def test_null_search_is_believed_only_on_fresh_seeds():
    found = simulate_search(
        np.random.default_rng(2), searches=3_000, candidates=35, finalists=3, finalist_seeds=3, seeds=10, noise=1.0
    )
    assert found["naive"].mean() == pytest.approx(2.12, abs=0.05)  # E max of 35 standard normals
    assert 0.3 < found["selection"].mean() < 1.0
    assert found["claim"].mean() == pytest.approx(0.0, abs=0.02)
    assert np.mean(found["claim_t_p"] < 0.05) == pytest.approx(0.05, abs=0.015)


def test_ranking_anew_finds_better_candidates():
    setting = {"searches": 3_000, "candidates": 35, "finalist_seeds": 3, "seeds": 2, "noise": 1.0, "spread": 0.5}
    one = simulate_search(np.random.default_rng(3), finalists=1, **setting)["truth"].mean()
    five = simulate_search(np.random.default_rng(3), finalists=5, **setting)["truth"].mean()
    assert five / one == pytest.approx(1.35, abs=0.15)
