"""Paired tests, effect sizes, Holm, TOST and power against published examples and independent implementations.

Published: Student's sleep data and the depression data of Hollander & Wolfe with R's output (t.test, wilcox.test,
effectsize::cohens_d, p.adjust, power.t.test); Darwin's maize with Fisher's (1935) own count of permutations.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from evomix.statistics.effect import dz_interval, effect, hedges_factor, in_words, noncentral_t_cdf, noncentrality_at
from evomix.statistics.equivalence import margin_from_slope, tost
from evomix.statistics.multiplicity import holm
from evomix.statistics.paired import bootstrap_interval, paired_t, sign_flip_p, signed_rank_p, signed_ranks
from evomix.statistics.power import detectable_effect, power, seeds_needed
from evomix.streams import numpy_stream

SLEEP_1 = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
SLEEP_2 = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
SLEEP = SLEEP_1 - SLEEP_2
DEPRESSION = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]) - np.array(
    [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
)
MAIZE = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], dtype=float)

# Differences of losses: up to 12 seeds, on a grid coarse enough that ties and zeros occur.
differences = st.integers(2, 12).flatmap(lambda n: arrays(float, n, elements=st.integers(-40, 40).map(lambda k: k / 8)))


def test_sleep_data_as_r_prints_it():
    test = paired_t(SLEEP)
    assert test.t == pytest.approx(-4.0621, abs=5e-5)
    assert test.df == 9
    assert test.p == pytest.approx(0.002833, abs=5e-7)
    assert (test.low, test.high) == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)
    found = effect(SLEEP_1, SLEEP_2, test, 0.05)
    assert found["d_z"] == pytest.approx(-1.28, abs=5e-3)
    assert found["ci"] == pytest.approx([-2.12, -0.41], abs=5e-3)
    assert found["interpretation"] == "large in favour of standard"


def test_exact_tests_on_published_data():
    assert signed_rank_p(DEPRESSION) == pytest.approx(0.03906, abs=5e-6)
    assert np.sum(signed_ranks(DEPRESSION)[signed_ranks(DEPRESSION) > 0]) == 40
    assert sign_flip_p(MAIZE) == 1726 / 32768
    assert paired_t(MAIZE).t == pytest.approx(2.148, abs=5e-4)


@pytest.mark.parametrize("n", [2, 5, 10])
def test_smallest_p_of_n_seeds(n):
    everything_positive = np.arange(1.0, n + 1)
    assert sign_flip_p(everything_positive) == 2 ** (1 - n)
    assert signed_rank_p(everything_positive) == 2 ** (1 - n)


@given(differences)
@settings(max_examples=40, deadline=None)
def test_against_scipy(difference):
    mine = paired_t(difference)
    if not mine.degenerate:
        reference = stats.ttest_1samp(difference, 0)
        interval = reference.confidence_interval(0.95)
        assert (mine.t, mine.p, mine.low, mine.high) == pytest.approx(
            (reference.statistic, reference.pvalue, interval.low, interval.high), rel=1e-9, abs=1e-12
        )
    permuted = stats.permutation_test(
        (difference, np.zeros_like(difference)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    # SciPy doubles the smaller tail and caps at 1; by symmetry of sign flips that is the two-sided p here.
    assert sign_flip_p(difference) == pytest.approx(permuted.pvalue, abs=1e-12)


def test_signed_rank_against_scipy_without_ties():
    rng = np.random.default_rng(1)
    for n in (3, 6, 10, 14):
        difference = rng.normal(0.4, 1, n)
        assert signed_rank_p(difference) == pytest.approx(stats.wilcoxon(difference, method="exact").pvalue)


def test_many_seeds_are_sampled_from_a_stream():
    difference = np.random.default_rng(2).normal(0.5, 1, 24)
    p = signed_rank_p(difference, numpy_stream(0, "test"))
    assert p == signed_rank_p(difference, numpy_stream(0, "test"))
    assert p == pytest.approx(stats.wilcoxon(difference, method="exact").pvalue, abs=4e-3)
    with pytest.raises(ValueError, match="random stream"):
        signed_rank_p(difference)


def test_worst_rank_of_diverged_runs():
    # Nine seeds in favour, one evolved run diverged: 45 − 10 of 55, P from the exact distribution of the statistic.
    scores = np.append(np.arange(1.0, 10.0), -np.inf)
    same_ranks = np.append(np.arange(1.0, 10.0), -10.0)
    assert signed_rank_p(scores) == stats.wilcoxon(same_ranks, method="exact").pvalue
    assert signed_rank_p(np.array([0.0, 0.0])) == 1.0
    assert list(signed_ranks(np.array([1.0, -1.0, 0.0, np.inf, np.inf]))) == [1.5, -1.5, 3.5, 3.5]


@given(differences)
@settings(max_examples=40, deadline=None)
def test_swapping_the_arms_flips_signs_only(difference):
    here, there = paired_t(difference), paired_t(-difference)
    assert (here.mean, here.low, here.high, here.p) == pytest.approx(
        (-there.mean, -there.high, -there.low, there.p), rel=1e-9, abs=1e-12
    )
    assert signed_rank_p(difference) == signed_rank_p(-difference)
    if not here.degenerate:
        assert here.t == pytest.approx(-there.t)
        low, high = dz_interval(here, 0.05)
        assert dz_interval(there, 0.05) == pytest.approx((-high, -low), rel=1e-6, abs=1e-7)


@given(differences, st.integers(0, 2**32 - 1), st.sampled_from([0.25, 3.0, 1024.0]))
@settings(max_examples=40, deadline=None)
def test_order_and_unit_do_not_matter(difference, seed, unit):
    here = paired_t(difference)
    there = paired_t(unit * np.random.default_rng(seed).permutation(difference))
    assert there.p == pytest.approx(here.p, rel=1e-9, abs=1e-12)
    assert (there.mean, there.low, there.high) == pytest.approx(
        (unit * here.mean, unit * here.low, unit * here.high), rel=1e-9, abs=1e-9
    )
    assert tost(unit * difference, paired_t(unit * difference), unit * 0.7, 0.05).p == pytest.approx(
        tost(difference, here, 0.7, 0.05).p, rel=1e-9, nan_ok=True
    )


def test_differences_all_equal():
    same = paired_t(np.full(10, 0.01))
    assert same.degenerate
    assert math.isnan(same.t)
    assert same.p == 2**-9
    assert paired_t(np.zeros(10)).p == 1.0
    assert tost(np.zeros(10), paired_t(np.zeros(10)), 0.01, 0.05).p == 2**-10
    assert not tost(np.zeros(3), paired_t(np.zeros(3)), 0.01, 0.05).equivalent
    assert in_words(math.nan).startswith("not computable")
    # Equal in arithmetic, unequal in the last bits.
    assert paired_t(np.array([2.0 - 1.9, 1.7 - 1.6, 0.3 - 0.2])).degenerate


def test_too_few_pairs_give_no_numbers_and_no_error():
    for n in (0, 1):
        test = paired_t(np.full(n, 0.5))
        assert math.isnan(test.p)
        assert math.isnan(tost(np.full(n, 0.5), test, 0.1, 0.05).p)
        assert math.isnan(effect(np.ones(n), np.ones(n), test, 0.05)["d_z"])
        assert math.isnan(power(0.5, n, 0.05))
        assert math.isnan(detectable_effect(n, 0.05))


def test_bootstrap_interval_by_efrons_formula():
    """BCa written out: bias from the share below the estimate, acceleration from the jackknife."""
    difference = np.random.default_rng(3).lognormal(0, 1, 12)
    low, high = bootstrap_interval(difference, 0.05, numpy_stream(0, "bca"), 40_000)
    draws = np.random.default_rng(4).choice(difference, (40_000, 12)).mean(axis=1)
    z0 = stats.norm.ppf(np.mean(draws < difference.mean()))
    jackknife = (difference.sum() - difference) / 11
    deviation = jackknife.mean() - jackknife
    acceleration = np.sum(deviation**3) / (6 * np.sum(deviation**2) ** 1.5)
    z = z0 + stats.norm.ppf([0.025, 0.975])
    expected = np.quantile(draws, stats.norm.cdf(z0 + z / (1 - acceleration * z)))
    assert (low, high) == pytest.approx(tuple(expected), rel=0.02)
    assert np.isnan(bootstrap_interval(np.zeros(4), 0.05, numpy_stream(0, "bca"))).all()


def test_two_pairs_bootstrap_without_a_warning(recwarn):
    bootstrap_interval(np.array([0.1, 0.2]), 0.05, numpy_stream(0, "bca"), 999)
    assert not recwarn.list


def test_hedges_and_noncentral_t():
    assert hedges_factor(9) == pytest.approx(0.914, abs=5e-4)
    assert math.isnan(hedges_factor(1))
    for t, df, delta in ((2.1, 9, 0.5), (-3.0, 4, -5.0), (15.0, 9, 11.0)):
        assert noncentral_t_cdf(t, df, delta) == pytest.approx(stats.nct.cdf(t, df, delta), rel=1e-6)
    # The limit used for huge t joins the library's values where both are good.
    assert noncentrality_at(301, 9, 0.975) / 301 == pytest.approx(noncentrality_at(299, 9, 0.975) / 299, rel=1e-4)


def test_power_against_r_and_statsmodels():
    from statsmodels.stats.power import TTestPower

    assert seeds_needed(0.5, 0.05) == 34  # power.t.test(delta=.5, power=.8, type="one.sample"): n = 33.3671
    assert [round(power(d, 10, 0.05 / 3), 2) for d in (0.8, 1.0, 1.5)] == [0.40, 0.60, 0.94]
    assert detectable_effect(10, 0.05 / 3) == pytest.approx(1.22, abs=5e-3)
    for d_z, n, alpha in ((0.3, 5, 0.05), (1.2, 10, 0.0167), (0.7, 40, 0.01), (0.0, 8, 0.05)):
        expected = TTestPower().power(d_z, n, alpha, alternative="two-sided")
        assert power(d_z, n, alpha) == pytest.approx(expected, rel=1e-6)
    assert seeds_needed(0.0, 0.05) is None


def test_equivalence_against_statsmodels():
    from statsmodels.stats.weightstats import ttost_paired

    for margin in (0.5, 2.0, 3.0):
        p, lower, upper = ttost_paired(SLEEP_1, SLEEP_2, -margin, margin)
        found = tost(SLEEP, paired_t(SLEEP), margin, 0.05)
        assert (found.p, found.p_lower, found.p_upper) == pytest.approx((p, lower[1], upper[1]), rel=1e-9)
        # The duality of TOST: equivalent at α exactly when the 1 − 2α interval lies inside the margin.
        assert found.equivalent == (-margin < found.low and found.high < margin)
    assert margin_from_slope(-0.2, 0.05) == pytest.approx(0.2 * math.log(1.05))


def test_holm_against_r_and_statsmodels():
    from statsmodels.stats.multitest import multipletests

    assert list(holm({"a": 0.01, "b": 0.02, "c": 0.03, "d": 0.04}).values()) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    for p_values in np.random.default_rng(5).random((20, 4)) ** 2:
        expected = multipletests(p_values, method="holm")[1]
        assert list(holm(dict(zip("abcd", p_values, strict=True))).values()) == pytest.approx(list(expected))


def test_holm_counts_a_missing_test():
    adjusted = holm({"a": 0.01, "b": math.nan, "c": 0.04})
    assert adjusted["a"] == pytest.approx(0.03)
    assert adjusted["c"] == pytest.approx(0.08)
    assert math.isnan(adjusted["b"])
