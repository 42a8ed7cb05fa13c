"""The phases validation and comparison on files: verdicts, criteria, the diverged rule, bytes that do not wander."""

import json
import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evomix.artifacts import canonical_json, read_json, write_json
from evomix.errors import UserError
from evomix.provenance import PROTOCOL, protocol_digest
from evomix.settings import Tuning, Validation
from evomix.statistics import comparison, scaling_law, validation
from evomix.statistics.multiplicity import holm
from evomix.statistics.paired_study import Pairs, analyse
from evomix.statistics.registration import REGISTERED, departures, registration
from evomix.statistics.verdict import verdict_line, word
from statistics_study import FRAMEWORKS, noisy_loss, write_study, write_summary

FIRST, SECOND, THIRD = FRAMEWORKS
losses_or_diverged = st.one_of(st.integers(80, 100).map(lambda k: k / 64), st.just(float("nan")))


def run(folder, loss, count=10, frameworks=FRAMEWORKS, shuffle=False, **pair):
    """Carry a synthetic study through all three phases; return the validation JSONs by framework."""
    seeds = list(range(42, 42 + count))
    settings = Validation(size="1M", seeds=seeds, **pair)
    paths = write_study(folder, loss, seeds, frameworks)
    if shuffle:
        random.Random(1).shuffle(paths)
    laws = {name: folder / "scaling" / f"{name}.json" for name in frameworks}
    for name, path in laws.items():
        own = [item for item in paths if f"/{name}/" in str(item)]
        scaling_law.fit(name, own, path, preset="test", tuning_policy="joint", variants=settings.pair(name))
    validation.validate(
        settings,
        frameworks,
        paths,
        laws,
        folder / "validation",
        preset="test",
        tuning_policy="joint",
    )
    comparison.compare(settings, frameworks, paths, folder / "comparison.json", preset="test", tuning_policy="joint")
    return {name: read_json(folder / "validation" / f"{name}.json", "validation") for name in frameworks}


def criteria(result):
    return {item["name"]: item["verdict"] for item in result["criteria"] + result["strong_criteria"]}


def test_three_known_effects_get_the_three_verdicts(tmp_path):
    results = run(tmp_path, noisy_loss({FIRST: 0.03, SECOND: -0.03, THIRD: 0.0}))
    assert {name: result["verdict"]["word"] for name, result in results.items()} == {
        FIRST: "better", SECOND: "worse", THIRD: "equivalent"
    }  # fmt: skip
    better = results[FIRST]
    assert better["difference"]["mean"] == pytest.approx(0.03, abs=0.005)
    assert better["success"]
    assert better["strong_success"]
    assert set(criteria(better).values()) == {"met", "not measured"}
    assert criteria(better)["interpretable"] == "not measured"
    assert not results[SECOND]["success"]
    assert criteria(results[SECOND])["significance"] == "not met"
    assert [row["seed"] for row in better["per_seed"]] == list(range(42, 52))
    assert better["primary"]["holm_p"] >= better["primary"]["p"]
    line = verdict_line(better)
    assert line.startswith(f"{FIRST}: evolved is better than standard — gain +0.0")
    assert "\n" not in line


@pytest.mark.parametrize(("noise", "small"), [(0.0001, False), (0.02, True)])
def test_a_curve_subset_too_small_for_the_seeds_is_named(tmp_path, noise, small):
    """Its noise is what it adds beyond a shift common to all runs (here 0.3), against the seeds' standard deviation."""
    paths = write_study(tmp_path, noisy_loss({FIRST: 0.03}), list(range(42, 52)), [FIRST])
    for path in paths:
        summary = json.loads(path.read_text())
        sign = 1 if summary["seed"] % 2 else -1
        summary["subset"] = {"rows": 64, "loss": summary["loss"] + 0.3 + sign * noise}
        path.write_text(json.dumps(summary))
    settings = Validation(size="1M", seeds=list(range(42, 52)))
    validation.validate(settings, [FIRST], paths, {}, tmp_path / "validation")
    result = read_json(tmp_path / "validation" / f"{FIRST}.json", "validation")
    measured = result["subset"]["standard"]
    losses = np.array([row["standard"] for row in result["per_seed"]])
    assert measured["noise"] == pytest.approx(noise * np.sqrt(10 / 9))
    assert measured["seed_sd"] == pytest.approx(losses.std(ddof=1))
    assert measured["share"] == pytest.approx(measured["noise"] / measured["seed_sd"])
    assert any("curves of the standard variant: their 64 held-out rows" in item for item in result["warnings"]) is small


def test_comparison_finds_the_framework_that_differs(tmp_path):
    run(tmp_path, noisy_loss({FIRST: 0.03}))
    result = read_json(tmp_path / "comparison.json", "comparison")
    assert result["variants"][FIRST]["rank"] == 1
    assert {row["lower"] for row in result["contrasts"]} == {FIRST, None}
    assert result["anova"]["p_corrected"] < 1e-6
    assert result["sentence"].count("is lower than") == 2
    p_values = {row["label"]: row["p"] for row in result["contrasts"]}
    assert {row["label"]: row["holm_p"] for row in result["contrasts"]} == pytest.approx(holm(p_values))


def test_any_two_variants_can_be_compared(tmp_path):
    """Roles exchanged in one framework: its verdict turns round, is named, and is a departure from the protocol."""
    plain = run(tmp_path / "plain", noisy_loss({FIRST: 0.03}))
    turned = run(
        tmp_path / "turned", noisy_loss({FIRST: 0.03}), reference={FIRST: "evolved"}, candidate={FIRST: "standard"}
    )
    assert turned[FIRST]["variants"] == {"standard": "evolved", "evolved": "standard"}
    assert turned[FIRST]["difference"]["mean"] == pytest.approx(-plain[FIRST]["difference"]["mean"])
    assert turned[SECOND]["difference"] == plain[SECOND]["difference"]
    assert verdict_line(turned[FIRST]).startswith(f"{FIRST}: standard is worse than evolved — gain -0.0")
    extra = set(turned[FIRST]["protocol"]["departures"]) - set(plain[FIRST]["protocol"]["departures"])
    assert extra == {f"{FIRST} compares standard against evolved, registered evolved against standard"}
    across = read_json(tmp_path / "turned/comparison.json", "comparison")["variants"]
    assert [across[name]["variant"] for name in FRAMEWORKS] == ["standard", "evolved", "evolved"]
    assert across[FIRST]["losses"] == {str(row["seed"]): row["evolved"] for row in turned[FIRST]["per_seed"]}


def test_the_comparison_believes_only_what_was_measured_again(tmp_path):
    paths = write_study(tmp_path, noisy_loss({FIRST: 0.03}), range(42, 52))
    again = {"runs": [{"size": "1M", "seed": seed, "passed": seed != 44} for seed in range(42, 52)]}
    write_json(tmp_path / "rescoring.json", "rescoring", again)
    comparison.compare(
        Validation(size="1M", seeds=list(range(42, 52))),
        FRAMEWORKS,
        paths,
        tmp_path / "comparison.json",
        rescorings={FIRST: tmp_path / "rescoring.json"},
    )
    result = read_json(tmp_path / "comparison.json", "comparison")
    assert result["left_out"] == [44]
    assert result["variants"][FIRST]["diverged"] == [44]
    assert result["variants"][FIRST]["losses"]["44"] is None
    assert result["variants"][SECOND]["diverged"] == []


@pytest.mark.parametrize("gain", [0.0, 0.02])
def test_two_seeds_do_not_crash_and_claim_little(tmp_path, gain):
    results = run(tmp_path, noisy_loss({FIRST: gain}), count=2)
    assert any("no exact test can give p below 0.5" in warning for warning in results[FIRST]["warnings"])
    assert results[FIRST]["robust"]["wilcoxon_p"] in (0.5, 1.0)


def test_exact_copy_is_equivalent_never_better(tmp_path):
    def copy(framework, variant, size, seed):
        return noisy_loss({})(framework, "standard", size, seed)

    results = run(tmp_path, copy)
    for result in results.values():
        assert result["verdict"]["word"] == "equivalent"
        assert result["primary"]["p"] == 1.0
        assert result["degenerate"]


def test_same_bytes_whatever_the_order_of_the_files(tmp_path):
    loss = noisy_loss({FIRST: 0.01}, diverged=[(SECOND, "evolved", 43)])
    run(tmp_path / "a", loss)
    run(tmp_path / "b", loss, shuffle=True)
    for name in [*(f"validation/{name}.json" for name in FRAMEWORKS), "comparison.json", f"scaling/{FIRST}.json"]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_diverged_runs_follow_the_registered_rule(tmp_path):
    once = run(tmp_path / "once", noisy_loss({FIRST: 0.03}, diverged=[(FIRST, "evolved", 42)]))[FIRST]
    assert once["primary"]["test"].startswith("exact signed-rank")
    # Nine of nine finished pairs favour evolved, yet one lost run ranks above them all: W = 45 − 10, p = 86/1024.
    assert once["primary"]["p"] == pytest.approx(86 / 1024)
    assert once["verdict"]["word"] == "inconclusive"
    assert once["agreement"] == {"agree": 9, "seeds": 10, "share": 0.9}
    assert once["difference"]["pairs"] == 9
    assert once["diverged"] == {"standard": [], "evolved": [42]}
    assert criteria(once)["across_sizes"] == "not met"
    assert once["per_seed"][0]["evolved"] is None
    standard_lost = [(FIRST, "standard", seed) for seed in range(42, 52)]
    robust = run(tmp_path / "standard", noisy_loss({}, diverged=standard_lost))[FIRST]
    assert robust["verdict"]["word"] == "better"
    assert robust["difference"]["mean"] is None
    both = run(
        tmp_path / "both", noisy_loss({}, diverged=standard_lost + [(FIRST, "evolved", s) for s in range(42, 52)])
    )
    assert both[FIRST]["verdict"]["word"] == "inconclusive"
    assert both[FIRST]["primary"]["p"] == 1.0


def test_a_diverged_run_in_one_arm_forbids_equivalence(tmp_path):
    lost = run(tmp_path, noisy_loss({}, noise=1e-4, diverged=[(FIRST, "standard", 42)]))
    assert lost[FIRST]["equivalence"]["equivalent"]
    assert lost[FIRST]["verdict"]["word"] == "inconclusive"
    assert lost[SECOND]["verdict"]["word"] == "equivalent"


def test_better_needs_no_more_diverged_runs_than_the_standard():
    result = {
        "primary": {"holm_p": 0.01, "direction": 1.0},
        "equivalence": {"holm_p": None},
        "diverged": {"standard": [], "evolved": [42]},
    }
    assert word(result, 0.05) == "inconclusive"
    assert word({**result, "diverged": {"standard": [43], "evolved": [42]}}, 0.05) == "better"
    assert word({**result, "primary": {"holm_p": 0.01, "direction": -1.0}}, 0.05) == "worse"


@given(st.integers(2, 7).flatmap(lambda n: arrays(float, (2, n), elements=losses_or_diverged)), st.integers(0, 99))
@examples(max_examples=60, deadline=None)
def test_whole_analysis_under_swapped_arms_and_shuffled_seeds(losses, seed):
    """Ties, equal differences and diverged runs included: signs flip with the arms, the order of seeds is nothing."""
    setting = Validation(size="1M", seeds=list(range(losses.shape[1])))
    law = {FIRST: {"variants": {"standard": {"slope": {"mean": -0.2}}}}}
    regrets = {"standard": 0.01, "evolved": 0.02} if seed % 2 else None

    def analysed(first, second):
        return analyse([Pairs(FIRST, setting.seeds, first, second, regrets)], setting, law, resamples=0)[FIRST]

    here, there = analysed(*losses), analysed(*losses[::-1])
    order = np.random.default_rng(seed).permutation(losses.shape[1])
    again = analysed(*losses[:, order])
    for block, key in (("primary", "p"), ("robust", "wilcoxon_p"), ("robust", "permutation_p"), ("equivalence", "p")):
        assert there[block][key] == pytest.approx(here[block][key], rel=1e-6, abs=1e-9, nan_ok=True)
        assert again[block][key] == pytest.approx(here[block][key], rel=1e-6, abs=1e-9, nan_ok=True)
    assert there["difference"]["mean"] == pytest.approx(-here["difference"]["mean"], abs=1e-12, nan_ok=True)
    assert there["primary"]["direction"] == pytest.approx(-here["primary"]["direction"], nan_ok=True)
    if np.isfinite(losses).all():
        mirrored = {"better": "worse", "worse": "better"}
        assert there["verdict"]["word"] == mirrored.get(here["verdict"]["word"], here["verdict"]["word"])
    canonical_json(here)


def test_results_carry_the_protocol_and_no_machine(tmp_path):
    result = run(tmp_path, noisy_loss({}), count=3, frameworks=[FIRST])[FIRST]
    assert result["protocol"]["digest"] == REGISTERED
    assert not result["protocol"]["changed"]
    assert result["protocol"]["departures"] == [
        "a training has 100 steps, registered 100,000",
        "3 seeds, registered 10",
    ]
    assert result["provenance"]["tuning_policy"] == "joint"
    assert result["provenance"]["preset"] == "test"
    assert result["provenance"]["protocol"] == REGISTERED
    for name, schema in ((f"scaling/{FIRST}", "scaling"), ("comparison", "comparison")):
        assert read_json(tmp_path / f"{name}.json", schema)["provenance"]["protocol"] == REGISTERED
    text = json.dumps(result)
    assert str(tmp_path) not in text
    assert "NaN" not in text


def test_protocol_file_is_the_registered_one(tmp_path):
    assert protocol_digest() == REGISTERED, "PROTOCOL.md changed: log the amendment in it and set REGISTERED anew"
    edited = tmp_path / "PROTOCOL.md"
    edited.write_text(PROTOCOL.read_text(encoding="utf-8").replace("0.05", "0.10"), encoding="utf-8")
    assert protocol_digest(edited) != REGISTERED
    ten = Validation(size="1M", seeds=list(range(42, 52)))
    assert registration(ten)["departures"] == []
    assert registration(ten, edited)["changed"]
    pruning = Tuning(size="base", trials=50, steps=50_000, pruning="halving").budget
    short = Tuning(size="base", trials=6, steps=80).budget
    assert registration(ten, budget=pruning)["departures"] == ["tuning trials are pruned, registered not pruned"]
    assert registration(ten, budget=short, steps=120)["departures"] == [
        "a training has 120 steps, registered 100,000",
        "a tuning has 6 trials of 80 steps, registered 50 of 50,000",
    ]
    assert registration(ten, edited)["departures"] == ["the text of PROTOCOL.md is not the registered one"]
    assert protocol_digest(tmp_path / "absent.md") is None
    edited.write_bytes(PROTOCOL.read_bytes().replace(b"\n", b"\r\n"))
    assert protocol_digest(edited) == REGISTERED


def test_departures_name_key_and_registered_value():
    assert departures(Validation(size="1M", seeds=list(range(42, 52)))) == []
    assert departures(Validation(size="1M", seeds=list(range(42, 52)), alpha=0.1)) == ["alpha is 0.1, registered 0.05"]


def test_missing_and_doubled_runs_cost_one_sentence(tmp_path):
    seeds = [42, 43]
    settings = Validation(size="1M", seeds=seeds)
    paths = write_study(tmp_path, noisy_loss({}), seeds, [FIRST])
    kept = [path for path in paths if not str(path).endswith("evolved/1M/seed_43/summary.json")]
    with pytest.raises(UserError, match=re.escape("coefficient_dynamics/evolved at size 1M for seeds [43]")):
        validation.validate(settings, [FIRST], kept, {}, tmp_path / "out")
    with pytest.raises(UserError, match="given twice"):
        validation.validate(settings, [FIRST], [*paths, *paths], {}, tmp_path / "out")
    broken = write_summary(tmp_path / "broken", FIRST, "standard", "1M", 42, 1.0)
    broken.write_text(broken.read_text(encoding="utf-8").replace('"loss"', '"los"'), encoding="utf-8")
    with pytest.raises(UserError, match="no field `loss`"):
        validation.validate(settings, [FIRST], [broken], {}, tmp_path / "out")


def test_without_a_scaling_law_equivalence_is_never_claimed(tmp_path):
    seeds = list(range(42, 52))
    paths = write_study(tmp_path, noisy_loss({}, noise=1e-5), seeds, [FIRST])
    validation.validate(Validation(size="1M", seeds=seeds), [FIRST], paths, {}, tmp_path / "out")
    result = read_json(tmp_path / "out" / f"{FIRST}.json", "validation")
    assert result["equivalence"]["margin"] is None
    assert result["verdict"]["word"] == "inconclusive"
    assert criteria(result)["across_sizes"] == "not measured"


def test_what_the_search_claimed_stands_beside_the_result(tmp_path):
    seeds = list(range(42, 52))
    settings = Validation(size="1M", seeds=seeds)
    paths = write_study(tmp_path, noisy_loss({FIRST: 0.01}), seeds, [FIRST, SECOND])
    selections = {name: tmp_path / f"{name}.json" for name in (FIRST, SECOND)}
    write_json(selections[FIRST], "selection", {"reason": "best", "chosen": {"search_gain": 0.05, "gain": 0.02}})
    write_json(selections[SECOND], "selection", {"reason": "none of 35 candidates was accepted", "chosen": None})
    validation.validate(settings, [FIRST, SECOND], paths, {}, tmp_path / "out", selections=selections)
    curse = read_json(tmp_path / "out" / f"{FIRST}.json", "validation")["winners_curse"]
    assert curse["search_optimism"] == pytest.approx(0.05 - curse["validation"])
    assert curse["selection_optimism"] == pytest.approx(0.02 - curse["validation"])
    second = read_json(tmp_path / "out" / f"{SECOND}.json", "validation")
    assert second["winners_curse"] == {"found": False, "reason": "none of 35 candidates was accepted"}
    assert any("the search found nothing to freeze" in warning for warning in second["warnings"])
