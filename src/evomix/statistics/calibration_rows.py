"""The rows of the calibration table: each function simulates studies of one kind and counts."""

from __future__ import annotations

import numpy as np

from evomix.statistics import error_rates, scaling_law
from evomix.statistics.equivalence import margin_from_slope
from evomix.statistics.error_rates import Promise
from evomix.statistics.power import power
from evomix.statistics.repeated_measures import anova, friedman
from evomix.statistics.simulated_studies import SLOPE, Row, Studies, below, covers
from evomix.statistics.simulation import World
from evomix.statistics.winners_curse import simulate_search

EFFECTS = (0.0, 0.4, 0.8, 1.0, 1.2, 1.5)
"""True d_z of the power curve."""


def null_rows(run: Studies) -> tuple[list[Row], list[float]]:
    """Return rows under the null with the hyper-parameters known, and the p-values for the figure."""
    alpha, world = run.settings.alpha, World()
    found = run.simulate("null", world, frameworks=len(run.frameworks))
    single = run.each(found)
    level = Promise(f"at most {alpha:g}", high=alpha)
    better = [any(item["verdict"]["word"] == "better" for item in study.values()) for study in found]
    rows = [
        *run.rejections("hyper-parameters known", found, alpha),
        error_rates.rate("any verdict “better”, no variant is", better, level),
        error_rates.rate("false rejections, permutation", below(single, "robust", "permutation_p", alpha), level),
        error_rates.rate("false rejections, Wilcoxon", below(single, "robust", "wilcoxon_p", alpha), level),
    ]
    heavy = run.simulate("heavy", World(degrees=3))
    rows += run.rejections("heavy-tailed noise (t, 3 df)", heavy, alpha)
    lost = run.simulate("diverged", World(divergence=0.05), frameworks=len(run.frameworks))
    rows += run.rejections("5 % of runs diverge", lost, alpha)
    return rows, [item["primary"]["p"] for item in single]


def interval_rows(run: Studies) -> list[Row]:
    """Return rows on the coverage of intervals at a true effect d_z = 1."""
    world = World()
    gain = world.difference_sd
    found = run.each(run.simulate("intervals", world, gain=gain))
    promise = Promise("0.93 to 0.97", 0.93, 0.97)
    few = max(run.studies // 4, 20)
    bootstrapped = run.each(run.simulate("bootstrap", world, gain=gain, studies=few, resamples=499))
    return [
        error_rates.rate(
            "coverage of the interval of the mean",
            [covers(item["difference"]["ci"], gain) for item in found],
            promise,
        ),
        error_rates.rate("coverage of the interval of d_z", [covers(i["effect"]["ci"], 1.0) for i in found], promise),
        error_rates.rate(
            "coverage of the BCa interval (secondary; short at few seeds)",
            [covers(item["robust"]["bootstrap_ci"], gain) for item in bootstrapped],
            None,
        ),
    ]


def equivalence_rows(run: Studies) -> list[Row]:
    """Return rows on the equivalence test: its level on the margin, its power at no difference."""
    alpha = run.settings.alpha
    margin = margin_from_slope(SLOPE, run.settings.equivalence)
    world = World()
    edge = run.simulate("margin", world, gain=margin, frameworks=len(run.frameworks))
    centre = run.simulate("centre", world)
    promise = Promise(f"at most {alpha:g}", high=alpha)
    any_claim = [any(item["equivalence"]["equivalent"] for item in study.values()) for study in edge]
    return [
        error_rates.rate("false equivalence at the margin", below(run.each(edge), "equivalence", "p", alpha), promise),
        error_rates.rate("any false equivalence after Holm, at the margin", any_claim, promise),
        error_rates.rate(
            "equivalence shown when there is no difference",
            below(run.each(centre), "equivalence", "p", alpha),
            None,
        ),
    ]


def power_rows(run: Studies) -> tuple[list[Row], list[Row]]:
    """Return the rows of simulated power against the formula, and the power curve for the figure."""
    alpha, world, n = run.settings.alpha, World(), len(run.settings.seeds)
    curve, rows = [], []
    for d_z in EFFECTS:
        found = run.each(run.simulate(f"power {d_z}", world, gain=d_z * world.difference_sd))
        formula = power(d_z, n, alpha)
        promise = Promise(f"{formula:.3f} ± 0.03", formula - 0.03, formula + 0.03)
        row = error_rates.rate(f"power at d_z = {d_z:g}", below(found, "primary", "p", alpha), promise)
        curve.append({"d_z": d_z, "simulated": row["estimate"], "ci": row["ci"], "formula": formula})
        rows.append(row)
    return rows, curve


def search_rows(run: Studies) -> list[Row]:
    """Return rows on a null search with selection: what it says of its winner at each stage (in units of σ)."""
    found = simulate_search(
        run.stream("search"),
        searches=run.studies,
        candidates=35,
        finalists=3,
        finalist_seeds=3,
        seeds=len(run.settings.seeds),
        noise=1.0,
    )
    false = [bool(p < run.settings.alpha) for p in found["claim_t_p"]]
    claim = error_rates.mean("null search: gain of the frozen winner on fresh seeds (σ)", found["claim"], None)
    held = claim["ci"][0] <= 0 <= claim["ci"][1]
    return [
        error_rates.mean("null search: gain the search claims (σ)", found["naive"], None),
        error_rates.mean("null search: gain the re-ranking claims (σ)", found["selection"], None),
        {**claim, "promise": "0", "verdict": "holds within Monte-Carlo error" if held else "broken"},
        error_rates.rate(
            "null search: false rejections",
            false,
            Promise(f"at most {run.settings.alpha:g}", high=run.settings.alpha),
        ),
    ]


def law_rows(run: Studies) -> list[Row]:
    """Return rows on the scaling law and the cross-framework comparison under the null."""
    alpha, rng, n = run.settings.alpha, run.stream("laws"), np.array([0.5e6, 1e6, 2e6, 4e6])
    mean_K = 1.0 + 30 * n**-0.3
    slopes, clustered, multiple, ranked = [], [], [], []
    for _ in range(run.studies // 2):
        shared = 0.0035 * rng.normal(size=(len(run.settings.seeds), 1))
        own = 0.0035 * rng.normal(size=(3, len(run.settings.seeds), 4))
        loss = {"standard": mean_K + shared + own[0], "evolved": mean_K + shared + own[1]}
        grid = scaling_law.Grid(
            ["a", "b", "c", "d"], list(run.settings.seeds), {"standard": n, "evolved": n}, loss, loss
        )
        found = scaling_law.analyse(grid, "simulated", alpha, resamples=0)
        slopes.append(found["slope_comparison"]["p"] < alpha)
        clustered.append(found["ancova"]["gain_in_slope"]["p"] < alpha)
        table_SV = shared + own[:, :, 1].T
        repeated, friedmans = anova(table_SV), friedman(table_SV, rng)
        multiple.append(bool(repeated and repeated["p_corrected"] < alpha))
        ranked.append(bool(friedmans and friedmans["permutation_p"] < alpha))
    level, loose = (
        Promise(f"at most {alpha:g}", high=alpha),
        Promise(f"at most {alpha + 0.02:g}", high=alpha + 0.02),
    )
    return [
        error_rates.rate("false slope difference, paired over seeds", slopes, level),
        error_rates.rate("false slope difference, cluster-robust ANCOVA", clustered, loose),
        error_rates.rate("false rejections, repeated-measures ANOVA", multiple, level),
        error_rates.rate("false rejections, Friedman (permutation)", ranked, level),
    ]
