"""What a tuning means for the comparison: its noise widens the test, its budget stands in every result."""

import pytest

from evomix.artifacts import read_json, write_json
from evomix.errors import UserError
from evomix.settings import Tuning, Validation
from evomix.statistics import comparison, scaling_law, validation
from statistics_study import FRAMEWORKS, noisy_loss, write_study

FIRST, SECOND, _ = FRAMEWORKS
BUDGET = Tuning(size="base", trials=50, steps=100).budget


def write_tuning(path, regret=0.004, budget=BUDGET, pruned=0, lost=0, reference=None):
    """Write what the analysis reads of a tuning."""
    trials = {"planned": budget.trials, "finished": budget.trials - pruned - lost, "pruned": pruned}
    content = {"chosen": {"learning_rate": 1e-3}, "at_edge": [], "trials": trials, "spent_steps": budget.total_steps}
    content["reference"] = reference
    write_json(path, "tuning", {"expected_regret": regret, "budget": budget.model_dump(), **content})
    return path


def test_noise_of_the_tuning_widens_the_interval_but_not_d_z(tmp_path):
    seeds = list(range(42, 52))
    settings = Validation(size="1M", seeds=seeds)
    paths = write_study(tmp_path, noisy_loss({FIRST: 0.005}), seeds, [FIRST])
    tunings = {}
    for arm in ("standard", "evolved"):
        tunings[arm] = write_tuning(tmp_path / "tuning" / f"{arm}.json")
    found = {}
    for policy, files in (("joint", {FIRST: tunings}), ("shared", {FIRST: tunings}), ("none", None)):
        output = tmp_path / policy
        validation.validate(settings, [FIRST], paths, {}, output, tunings=files, tuning_policy=policy)
        found[policy] = read_json(output / f"{FIRST}.json", "validation")
    joint, shared, none = found["joint"], found["shared"], found["none"]
    assert joint["primary"]["expected_regrets"] == {"standard": 0.004, "evolved": 0.004}
    assert joint["primary"]["tuning_error"] == pytest.approx((0.2 * 2 * 0.004**2) ** 0.5)
    assert joint["primary"]["p"] > joint["seeds_only"]["p"] == none["primary"]["p"] == shared["primary"]["p"]
    assert joint["difference"]["ci"][0] < none["difference"]["ci"][0]
    assert joint["effect"] == none["effect"]
    assert any("noise of the tuning is not counted" in warning for warning in none["warnings"])
    assert not any("noise of the tuning is not counted" in warning for warning in joint["warnings"])
    taken = {"variant": "standard", "p": 0.4, "level": 0.01, "adopted": True}
    together = tunings | {"evolved": write_tuning(tmp_path / "tuning/same.json", reference=taken)}
    validation.validate(
        settings, [FIRST], paths, {}, tmp_path / "same", tunings={FIRST: together}, tuning_policy="joint"
    )
    same = read_json(tmp_path / f"same/{FIRST}.json", "validation")
    assert same["primary"]["p"] == joint["primary"]["p"], "one choice for both may suit one of them better"
    assert any("both variants have the standard's hyper-parameters" in warning for warning in same["warnings"])
    compared = tmp_path / "comparison.json"
    both = write_study(tmp_path / "both", noisy_loss({}), seeds, [FIRST, SECOND])
    best = {FIRST: tunings["evolved"], SECOND: tunings["standard"]}
    comparison.compare(settings, [FIRST, SECOND], both, compared, tunings=best)
    wide = read_json(compared, "comparison")["contrasts"][0]["ci"]
    comparison.compare(settings, [FIRST, SECOND], both, compared)
    narrow = read_json(compared, "comparison")["contrasts"][0]["ci"]
    assert wide[1] - wide[0] > 1.2 * (narrow[1] - narrow[0])


def test_budget_and_policy_stand_in_every_result_and_must_be_equal(tmp_path):
    seeds = [42, 43, 44]
    settings = Validation(size="1M", seeds=seeds)
    paths = write_study(tmp_path, noisy_loss({}), seeds, [FIRST])
    tunings = {FIRST: {arm: write_tuning(tmp_path / f"{arm}.json", pruned=2) for arm in ("standard", "evolved")}}
    labels = {"tuning_policy": "joint", "tuning_budget": BUDGET}
    scaling_law.fit(FIRST, paths, tmp_path / "law.json", **labels)
    laws = {FIRST: tmp_path / "law.json"}
    validation.validate(settings, [FIRST], paths, laws, tmp_path / "out", tunings=tunings, **labels)
    best = {FIRST: tunings[FIRST]["evolved"]}
    comparison.compare(settings, [FIRST], paths, tmp_path / "comparison.json", tunings=best, **labels)
    for path, schema in (("law", "scaling"), (f"out/{FIRST}", "validation"), ("comparison", "comparison")):
        result = read_json(tmp_path / f"{path}.json", schema)
        assert result["provenance"]["tuning_policy"] == "joint"
        assert result["provenance"]["tuning_budget"] == {
            "size": "base", "trials": 50, "steps": 100, "total_steps": 5_000, "pruning": "none"
        }  # fmt: skip
    result = read_json(tmp_path / f"out/{FIRST}.json", "validation")
    assert result["tuning"]["evolved"]["chosen"] == {"learning_rate": 1e-3}
    assert any(warning.startswith("4 trials of the tunings were pruned") for warning in result["warnings"])

    assert not any("finished trials" in warning or "replaced" in warning for warning in result["warnings"])
    write_tuning(tmp_path / "evolved.json", lost=1)
    validation.validate(settings, [FIRST], paths, laws, tmp_path / "out", tunings=tunings, **labels)
    warnings = read_json(tmp_path / f"out/{FIRST}.json", "validation")["warnings"]
    assert "1 trials of the tuning of evolved failed and so did all that replaced them" in warnings
    few = BUDGET.model_copy(update={"trials": 8})
    small = {FIRST: {arm: write_tuning(tmp_path / f"few/{arm}.json", budget=few) for arm in ("standard", "evolved")}}
    validation.validate(settings, [FIRST], paths, laws, tmp_path / "few", tunings=small, tuning_policy="joint")
    poor = read_json(tmp_path / f"few/{FIRST}.json", "validation")
    assert any(warning.startswith("a variant was tuned by 8 finished trials") for warning in poor["warnings"])
    assert poor["verdict"]["word"] == "inconclusive"
    assert poor["verdict"]["withheld"] == result["verdict"]["word"]
    assert poor["verdict"]["sentence"].startswith("inconclusive: 8 tuning trials are too few")

    poorer = BUDGET.model_copy(update={"trials": 10, "total_steps": 1_000})
    write_tuning(tunings[FIRST]["standard"], budget=poorer)
    with pytest.raises(UserError, match=r"standard\.json was tuned with another budget \(.*trials 10\); delete"):
        validation.validate(settings, [FIRST], paths, laws, tmp_path / "out", tunings=tunings, **labels)
