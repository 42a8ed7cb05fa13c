"""Scaling laws and repeated measures against statsmodels, SciPy, published output and laws known exactly."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, optimize, stats

from evomix.artifacts import read_json, write_json
from evomix.errors import UserError
from evomix.statistics import scaling_law
from evomix.statistics.paired import paired_t
from evomix.statistics.power_law import fit_many, multiplier, power_law
from evomix.statistics.repeated_measures import anova, friedman, within_ranks
from evomix.statistics.slopes import ancova, lack_of_fit, line_fits, r_squared
from evomix.streams import numpy_stream
from statistics_study import FRAMEWORKS, noisy_loss, write_study

N = np.array([0.5e6, 1e6, 2e6, 4e6])
LOG_N = np.log(N)

# Times of rounding first base, 22 players × 3 methods (Hollander & Wolfe 1973, p. 140; example of R's friedman.test).
ROUNDING = np.array([
    5.40, 5.50, 5.55, 5.85, 5.70, 5.75, 5.20, 5.60, 5.50, 5.55, 5.50, 5.40, 5.90, 5.85, 5.70, 5.45, 5.55, 5.60,
    5.40, 5.40, 5.35, 5.45, 5.50, 5.35, 5.25, 5.15, 5.00, 5.85, 5.80, 5.70, 5.25, 5.20, 5.10, 5.65, 5.55, 5.45,
    5.60, 5.35, 5.45, 5.05, 5.00, 4.95, 5.50, 5.50, 5.40, 5.45, 5.55, 5.50, 5.55, 5.55, 5.35, 5.45, 5.50, 5.55,
    5.50, 5.45, 5.25, 5.65, 5.60, 5.40, 5.70, 5.65, 5.55, 6.30, 6.30, 6.25,
]).reshape(22, 3)  # fmt: skip


def losses(slope=-0.2, seeds=10, noise=0.005, rng=0):
    generator = np.random.default_rng(rng)
    return 5 + slope * LOG_N + generator.normal(0, noise, (seeds, 1)) + generator.normal(0, noise, (seeds, 4))


def test_line_is_numpys():
    loss = losses()
    slopes, intercepts = line_fits(LOG_N, loss)
    for row, slope, intercept in zip(loss, slopes, intercepts, strict=True):
        assert np.polyfit(LOG_N, row, 1) == pytest.approx([slope, intercept])


def test_slope_weights_of_the_protocols_sizes():
    """The weights known from the predecessor's sizes: a worse small model "improves" the slope."""
    weights = [line_fits(np.log([0.44, 0.79, 1.18, 2.65]), row[None])[0][0] for row in np.eye(4)]
    assert weights == pytest.approx([-0.49, -0.15, 0.09, 0.56], abs=0.01)


def test_ancova_against_a_sandwich_written_out():
    standard, evolved = losses(-0.20), losses(-0.22, rng=1)
    y = np.concatenate([standard.ravel(), evolved.ravel()])
    x = np.tile(LOG_N, 20)
    arm = np.repeat([0.0, 1.0], 40)
    seed = np.tile(np.repeat(np.arange(10.0), 4), 2)
    found = ancova(x, y, arm, seed, centre=float(LOG_N.mean()), alpha=0.05)
    X = np.column_stack([np.ones(80), x - LOG_N.mean(), arm, arm * (x - LOG_N.mean())])
    bread = np.linalg.inv(X.T @ X)
    beta = bread @ X.T @ y
    scores = np.array([X[seed == s].T @ (y - X @ beta)[seed == s] for s in range(10)])
    covariance = 10 / 9 * 79 / 76 * bread @ scores.T @ scores @ bread
    assert found["gain_in_slope"]["estimate"] == pytest.approx(-beta[3])
    assert found["gain_in_slope"]["se"] == pytest.approx(math.sqrt(covariance[3, 3]))
    assert found["gain_at_centre"]["se"] == pytest.approx(math.sqrt(covariance[2, 2]))
    # In a balanced design the interaction is the mean of the paired per-seed slope differences.
    paired = paired_t(line_fits(LOG_N, standard)[0] - line_fits(LOG_N, evolved)[0])
    assert found["gain_in_slope"]["estimate"] == pytest.approx(paired.mean)
    assert found["gain_in_slope"]["t"] == pytest.approx(paired.t, rel=0.05)
    low, high = found["gain_in_slope"]["ci"]
    assert low < found["gain_in_slope"]["estimate"] < high


def test_lack_of_fit_is_the_nested_f_test_of_statsmodels():
    import statsmodels.formula.api as smf
    from statsmodels.stats.anova import anova_lm

    loss = losses() + 0.004 * (LOG_N - LOG_N.mean()) ** 2
    frame = pd.DataFrame(
        {"loss": loss.ravel(), "x": np.tile(LOG_N, 10), "seed": np.repeat(np.arange(10), 4), "size": list("abcd") * 10}
    )
    line = smf.ols("loss ~ C(seed) + x", frame).fit()
    saturated = smf.ols("loss ~ C(seed) + C(size)", frame).fit()
    expected = anova_lm(line, saturated)
    found = lack_of_fit(LOG_N, loss)
    assert found["F"] == pytest.approx(expected["F"][1])
    assert found["p"] == pytest.approx(expected["Pr(>F)"][1])
    assert found["df"] == [2, 27]
    assert r_squared(LOG_N, loss)["runs"] == pytest.approx(smf.ols("loss ~ x", frame).fit().rsquared)


def test_power_law_recovers_an_exact_law():
    curve = [1.2 + 20 * N**-0.35, 1.2 + 19 * N**-0.35]
    found = fit_many((N, N), (curve[0][None], curve[1][None]))
    assert found["alpha"][0] == pytest.approx(0.35, rel=0.01)
    assert found["E"][0] == pytest.approx(1.2, abs=0.01)
    assert found["A_evolved"][0] / found["A"][0] == pytest.approx(0.95, abs=1e-3)
    assert multiplier(found)[0] == pytest.approx((20 / 19) ** (1 / 0.35), rel=2e-3)


def test_power_law_against_scipy_least_squares():
    rng = np.random.default_rng(3)
    means = [1.2 + a * N**-0.35 + rng.normal(0, 0.001, 4) for a in (20, 19)]
    reference = np.exp(LOG_N.mean())

    def residual(theta):
        e, a, b, alpha = theta
        scaled = (N / reference) ** -alpha
        return np.concatenate([e + a * scaled - means[0], e + b * scaled - means[1]])

    best = optimize.least_squares(residual, [1.0, 0.2, 0.2, 0.3], bounds=([0, 0, 0, 0.01], [5, 5, 5, 3]), xtol=1e-14)
    found = fit_many((N, N), (means[0][None], means[1][None]))
    assert found["rss"][0] == pytest.approx(2 * best.cost, rel=1e-3)
    assert found["alpha"][0] == pytest.approx(best.x[3], rel=0.02)
    assert found["A_evolved"][0] / found["A"][0] == pytest.approx(best.x[2] / best.x[1], rel=1e-3)


def test_power_law_keeps_the_floor_above_zero_and_says_when_it_is_not_identified():
    straight = losses(noise=0.02, seeds=4)
    law = power_law((N, N), (straight, straight - 0.01), 0.05, numpy_stream(0, "test"), resamples=200)
    assert law["E"]["estimate"] >= 0
    assert law["unidentified_share"] > 0.05
    assert power_law((N[:2], N[:2]), (straight[:, :2], straight[:, :2]), 0.05, numpy_stream(0, "test")) is None


@given(st.floats(-3, 3), st.floats(0.1, 10), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_shift_and_scale_of_losses(shift, scale, seed):
    loss = losses(rng=seed, seeds=3)
    slopes, _ = line_fits(LOG_N, loss)
    assert line_fits(LOG_N, shift + scale * loss)[0] == pytest.approx(scale * slopes, rel=1e-6, abs=1e-9)
    assert lack_of_fit(LOG_N, shift + scale * loss)["F"] == pytest.approx(lack_of_fit(LOG_N, loss)["F"], rel=1e-5)
    assert anova(shift + scale * loss)["F"] == pytest.approx(anova(loss)["F"], rel=1e-5)


def test_fit_writes_a_scaling_law_with_its_warnings(tmp_path):
    paths = write_study(tmp_path, noisy_loss({FRAMEWORKS[0]: 0.02}), range(42, 47), FRAMEWORKS[:1])
    scaling_law.fit(FRAMEWORKS[0], paths, tmp_path / "law.json")
    law = read_json(tmp_path / "law.json", "scaling")
    assert [row["size"] for row in law["sizes"]] == ["0.5M", "1M", "2M", "4M"]
    assert law["better_sizes"] == 4
    assert law["variants"]["standard"]["slope"]["mean"] < 0
    assert law["variants"]["standard"]["slope"]["seeds"] == 5
    assert any("cannot tell a line in ln N from a power law" in warning for warning in law["warnings"])
    assert any("the line does not fit standard" in warning for warning in law["warnings"])
    assert law["power_law"]["multiplier"]["estimate"] > 1
    gains = [row["difference"]["mean"] for row in law["reference"]]
    assert gains == pytest.approx([0.02] * 4, abs=0.01)
    with pytest.raises(UserError, match="matrix_mixer"):
        scaling_law.fit("matrix_mixer", paths, tmp_path / "none.json")


def test_a_size_whose_losses_were_not_confirmed_is_never_better(tmp_path):
    paths = write_study(tmp_path, noisy_loss({FRAMEWORKS[0]: 0.02}), range(42, 47), FRAMEWORKS[:1])
    runs = [{"size": "2M", "seed": seed, "passed": seed != 44} for seed in range(42, 47)]
    write_json(tmp_path / "again.json", "rescoring", {"runs": runs, "passed": False})
    scaling_law.fit(FRAMEWORKS[0], paths, tmp_path / "law.json", rescoring=tmp_path / "again.json")
    law = read_json(tmp_path / "law.json", "scaling")
    assert [row["size"] for row in law["sizes"] if not row["better"]] == ["2M"]
    assert 44 not in law["complete_seeds"]


def test_swapping_the_arms_flips_the_slope_comparison(tmp_path):
    paths = write_study(tmp_path, noisy_loss({FRAMEWORKS[0]: 0.02}), range(42, 47), FRAMEWORKS[:1])
    both = [("standard", "evolved"), ("evolved", "standard")]
    laws = []
    for number, variants in enumerate(both):
        scaling_law.fit(FRAMEWORKS[0], paths, tmp_path / f"{number}.json", variants=variants)
        laws.append(read_json(tmp_path / f"{number}.json", "scaling"))
    here, there = (law["slope_comparison"] for law in laws)
    assert here["mean"] == pytest.approx(-there["mean"])
    assert here["p"] == pytest.approx(there["p"])
    assert laws[0]["ancova"]["gain_at_centre"]["estimate"] == pytest.approx(
        -laws[1]["ancova"]["gain_at_centre"]["estimate"]
    )


def test_friedman_as_r_prints_it():
    found = friedman(ROUNDING, numpy_stream(0, "test"))
    assert found["chi_squared"] == pytest.approx(11.143, abs=5e-4)
    assert found["df"] == 2
    assert found["p"] == pytest.approx(0.003805, abs=5e-7)
    assert found["permutation_p"] == pytest.approx(found["p"], abs=0.003)
    assert found["kendalls_w"] == pytest.approx(11.143 / 44, abs=1e-4)


def test_anova_against_statsmodels_and_contrasts():
    from statsmodels.stats.anova import AnovaRM

    found = anova(ROUNDING)
    frame = pd.DataFrame(
        {"time": ROUNDING.ravel(), "player": np.repeat(np.arange(22), 3), "method": np.tile([0, 1, 2], 22)}
    )
    expected = AnovaRM(frame, "time", "player", within=["method"]).fit().anova_table
    assert found["F"] == pytest.approx(expected["F Value"].iloc[0])
    assert found["p"] == pytest.approx(expected["Pr > F"].iloc[0])
    # Greenhouse and Geisser's epsilon in its other form, through orthonormal (Helmert) contrasts.
    contrasts = linalg.helmert(3)
    covariance = contrasts @ np.cov(ROUNDING.T) @ contrasts.T
    epsilon = np.trace(covariance) ** 2 / (2 * np.trace(covariance @ covariance))
    assert found["epsilon"] == pytest.approx(epsilon)
    assert found["p_corrected"] == pytest.approx(stats.f.sf(found["F"], 2 * epsilon, 42 * epsilon))
    assert found["p_corrected"] > found["p"]


def test_anova_of_two_variants_is_the_paired_t():
    pair = ROUNDING[:, :2]
    test = paired_t(pair[:, 0] - pair[:, 1])
    found = anova(pair)
    assert found["F"] == pytest.approx(test.t**2)
    assert found["p"] == pytest.approx(test.p)


def test_repeated_measures_in_narrow_places():
    assert anova(np.ones((5, 3))) is None
    assert friedman(np.ones((5, 3)), numpy_stream(0, "test")) is None
    assert anova(ROUNDING[:1]) is None
    assert anova(ROUNDING[:2])["epsilon"] == pytest.approx(0.5)
    assert list(within_ranks(np.array([[1.0, np.nan, np.nan, 0.5]]))[0]) == [2.0, 3.5, 3.5, 1.0]
