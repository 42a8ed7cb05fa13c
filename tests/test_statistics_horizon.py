"""Horizon fidelity against SciPy's rank statistics, and the phase on curve files."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from evomix.artifacts import read_json, write_table
from evomix.errors import UserError
from evomix.statistics import horizon

values = arrays(float, 8, elements=st.integers(0, 6).map(float))


@given(values, values)
@settings(max_examples=40, deadline=None)
def test_spearman_against_scipy(early, final):
    if np.ptp(early) == 0 or np.ptp(final) == 0:
        assert np.isnan(horizon.spearman(early, final))
    else:
        assert horizon.spearman(early, final) == pytest.approx(stats.spearmanr(early, final).statistic)


def test_agreement_of_pairs_is_kendalls_tau_without_ties():
    rng = np.random.default_rng(0)
    early, final = rng.normal(size=(2, 12))
    tau = stats.kendalltau(early, final).statistic
    assert horizon.pairwise_agreement(early, final) == pytest.approx((tau + 1) / 2)
    assert horizon.pairwise_agreement(final, final) == 1
    assert horizon.pairwise_agreement(-final, final) == 0
    assert horizon.pairwise_agreement(np.zeros(12), final) == 0.5


def test_overlap_of_the_best():
    final = np.array([1.0, 2, 3, 4, 5])
    assert horizon.top_overlap(final, final, 3) == 1
    assert horizon.top_overlap(np.array([5.0, 4, 3, 2, 1]), final, 2) == 0
    assert horizon.top_overlap(np.array([1.0, 4, 3, 2, 5]), final, 2) == 0.5


def test_intervals_against_scipys_percentile_bootstrap():
    """Candidates are drawn as pairs of an early and a final loss; 1,000 draws leave a quantile uncertain by .03."""
    rng = np.random.default_rng(2)
    final = rng.normal(size=25)
    early = final + rng.normal(size=25)
    found = horizon.agreement(early, final, 3, rng, 0.05)
    others = {"spearman": horizon.spearman, "pairwise": horizon.pairwise_agreement}
    others["top_k"] = lambda first, second: horizon.top_overlap(first, second, 3)
    for name, statistic in others.items():
        theirs = stats.bootstrap(
            (early, final), lambda a, b, axis=-1, statistic=statistic: statistic(a, b), paired=True, vectorized=True,
            n_resamples=4000, batch=500, method="percentile", rng=np.random.default_rng(3),
        ).confidence_interval  # fmt: skip
        assert found[name]["ci"] == pytest.approx(list(theirs), abs=0.06), name
    assert found["regret"] == final[early.argmin()] - final.min()


def curves(count=12, steps=100, crossing=False):
    """Candidates whose loss falls to a floor; with `crossing`, the fastest early is the worst at the end."""
    at = np.arange(steps + 1.0)
    measured = np.where(at % 2 == 0, 1.0, np.nan)
    return {
        f"c{number:02d}": (
            at,
            measured * (1 + 0.01 * number + np.exp(-at / (5 + (-number if crossing else number) * 0.3))),
        )
        for number in range(count)
    }


def test_short_proxies_agree_when_curves_do_not_cross_and_mislead_when_they_do():
    honest = horizon.analyse(curves())["fractions"]
    assert all(row["spearman"]["estimate"] == pytest.approx(1) and row["same_winner"] for row in honest)
    crossed = horizon.analyse(curves(crossing=True))["fractions"]
    assert crossed[0]["spearman"]["estimate"] < 0
    assert not crossed[0]["same_winner"]
    assert crossed[0]["regret"] > 0.05
    assert crossed[-1]["spearman"]["estimate"] == pytest.approx(1)
    low, high = crossed[1]["pairwise"]["ci"]
    assert 0 <= low <= crossed[1]["pairwise"]["estimate"] <= high <= 1


def test_diverged_candidates_and_unmeasured_fractions_are_named():
    some = curves(count=4)
    some["gone"] = (some["c00"][0][:51], some["c00"][1][:51])
    some["c01"][1][:8] = np.nan
    result = horizon.analyse(some)
    assert result["left_out"] == ["gone"]
    assert "spearman" not in result["fractions"][0]
    assert any("no held-out loss yet at 2%, 5%" in warning for warning in result["warnings"])
    assert horizon.analyse({})["candidates"] == []


def test_phase_reads_curves_in_any_order(tmp_path):
    paths, names = [], []
    for name, (step, loss) in curves(count=5).items():
        paths.append(tmp_path / f"{name}.parquet")
        names.append(name)
        write_table(paths[-1], pd.DataFrame({"step": step.astype(int), "held_out_loss": loss}))
    horizon.horizon(paths, names, tmp_path / "a.json")
    horizon.horizon(paths[::-1], names[::-1], tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    result = read_json(tmp_path / "a.json", "horizon")
    assert result["candidates"] == names
    assert result["k"] == 3
    with pytest.raises(UserError, match="5 curves need as many different names"):
        horizon.horizon(paths, names[:4], tmp_path / "c.json")
