"""Calibration: the analysis run on simulated studies whose truth is known, and its error rates counted.

Phase `calibration`, writes calibration.json: a table (one row per promise of PROTOCOL.md) and the data of its figure.
Every study goes through `validation.analyse`, the function that judges the real one.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from evomix.artifacts import write_json
from evomix.config import Tuning, Validation
from evomix.provenance import provenance
from evomix.statistics import error_rates, scaling_law
from evomix.statistics.equivalence import margin_from_slope
from evomix.statistics.error_rates import Promise
from evomix.statistics.power import power
from evomix.statistics.repeated_measures import anova, friedman
from evomix.statistics.simulation import World
from evomix.statistics.validation import Pairs, analyse
from evomix.statistics.winners_curse import simulate_search
from evomix.streams import numpy_stream

SLOPE = -0.2
"""Slope of the simulated standard (nats per ln N): sets the equivalence margin."""
EFFECTS = (0.0, 0.4, 0.8, 1.0, 1.2, 1.5)
"""True d_z of the power curve."""
Row = dict[str, Any]
Result = dict[str, Any]


class Calibration:
    """Simulated studies of `frameworks` comparisons over `settings.seeds`, analysed as the workflow does."""

    def __init__(self, settings: Validation, frameworks: list[str], studies: int, seed: int) -> None:
        self.settings, self.frameworks, self.studies, self.seed = settings, frameworks, studies, seed
        self.law = {"variants": {"standard": {"slope": {"mean": SLOPE}}}}

    def stream(self, *names: str | int) -> np.random.Generator:
        """Return the stream of one scenario."""
        return numpy_stream(self.seed, "calibration", *names)

    def simulate(
        self,
        scenario: str,
        world: World,
        *,
        gain: float = 0.0,
        frameworks: int = 1,
        studies: int | None = None,
        resamples: int = 0,
    ) -> list[dict[str, Result]]:
        """Return the analyses of simulated studies, in each of which every framework's true gain is `gain`."""
        rng, seeds = self.stream(scenario), self.settings.seeds
        return [
            self.analyse(
                [
                    Pairs(framework, seeds, *world.finals(rng, len(seeds), gain))
                    for framework in self.frameworks[:frameworks]
                ],
                resamples,
            )
            for _ in range(studies or self.studies)
        ]

    def analyse(self, pairs: list[Pairs], resamples: int = 0) -> dict[str, Result]:
        """Return the workflow's analysis of one simulated study."""
        return analyse(pairs, self.settings, dict.fromkeys(self.frameworks, self.law), resamples=resamples)

    def each(self, found: list[dict[str, Result]]) -> list[Result]:
        """Return the analyses of the first framework: independent studies, one test each."""
        return [study[self.frameworks[0]] for study in found]

    def rejections(self, name: str, found: list[dict[str, Result]], limit: float | None) -> list[Row]:
        """Return the rows of false rejections: of one framework's test, and of any in the family after Holm."""
        alpha = self.settings.alpha
        promise = Promise(f"at most {limit:g}", high=limit) if limit is not None else None
        family = [any(item["primary"]["holm_p"] < alpha for item in study.values()) for study in found]
        single = [item["primary"]["p"] < alpha for item in self.each(found)]
        first = error_rates.rate(f"false rejections, {name}", single, promise)
        if len(found[0]) == 1:
            return [first]
        return [
            first,
            error_rates.rate(f"any false rejection of {len(self.frameworks)} after Holm, {name}", family, promise),
        ]

    def null(self) -> tuple[list[Row], list[float]]:
        """Return rows under the null with the hyper-parameters known, and the p-values for the figure."""
        alpha, world = self.settings.alpha, World()
        found = self.simulate("null", world, frameworks=len(self.frameworks))
        single = self.each(found)
        level = Promise(f"at most {alpha:g}", high=alpha)
        better = [any(item["verdict"]["word"] == "better" for item in study.values()) for study in found]
        rows = [
            *self.rejections("hyper-parameters known", found, alpha),
            error_rates.rate("any verdict “better”, no variant is", better, level),
            error_rates.rate("false rejections, permutation", _below(single, "robust", "permutation_p", alpha), level),
            error_rates.rate("false rejections, Wilcoxon", _below(single, "robust", "wilcoxon_p", alpha), level),
        ]
        heavy = self.simulate("heavy", World(degrees=3))
        rows += self.rejections("heavy-tailed noise (t, 3 df)", heavy, alpha)
        lost = self.simulate("diverged", World(divergence=0.05), frameworks=len(self.frameworks))
        rows += self.rejections("5 % of runs diverge", lost, alpha)
        return rows, [item["primary"]["p"] for item in single]

    def tuning(self, tuning: Tuning) -> list[Row]:
        """Return rows under the null with every variant tuned: as the workflow does it, and in two careless ways."""
        from evomix.statistics.simulated_tuning import Tuner

        tuner, world, rng, seeds = Tuner.of(tuning), World(), self.stream("tuning"), self.settings.seeds
        protocol, ignored, luckiest, costs = [], [], [], []
        for _ in range(self.studies):
            tuned = [tuner.tune(world, rng) for _ in self.frameworks]
            state = rng.bit_generator.state

            def study(rule: str, noise: bool, tuned: list[Any] = tuned, state: Any = state) -> dict[str, Result]:
                rng.bit_generator.state = state  # the same final noise under every rule
                return self.analyse(
                    [
                        Pairs(
                            framework,
                            seeds,
                            *world.finals(rng, len(seeds), 0.0, getattr(choice, rule)),
                            choice.expected_regrets if noise else None,
                        )
                        for framework, choice in zip(self.frameworks, tuned, strict=True)
                    ]
                )

            protocol.append(study("cautious", True))
            ignored.append(study("cautious", False))
            luckiest.append(study("luckiest", False))
            costs.append([np.mean(tuned[0].cautious), np.mean(tuned[0].luckiest)])
        rows, regret = [], np.array(costs)
        for name, found, confirmed in (
            ("full protocol, tuning included", protocol, True),
            ("tuned by surface, its noise ignored", ignored, False),
            ("retrained at the luckiest trial", luckiest, False),
        ):
            rows += self.rejections(name, found, self.settings.alpha + 0.02 if confirmed else None)
            covered = [_covers(item["difference"]["ci"], 0.0) for item in self.each(found)]
            promise = Promise("0.93 or more", 0.93) if confirmed else None
            rows.append(error_rates.rate(f"coverage of the mean's interval, {name}", covered, promise))
        wider = [item["primary"]["standard_error"] / _seed_error(item) for item in self.each(protocol)]
        return [
            *rows,
            error_rates.mean(f"regret of the choice after {tuning.trials} trials (nats)", regret[:, 0], None),
            error_rates.mean(f"regret of the luckiest of {tuning.trials} trials (nats)", regret[:, 1], None),
            error_rates.mean("widening of the standard error by the tuning's noise (factor)", np.array(wider), None),
        ]

    def intervals(self) -> list[Row]:
        """Return rows on the coverage of intervals at a true effect d_z = 1."""
        world = World()
        gain = world.difference_sd
        found = self.each(self.simulate("intervals", world, gain=gain))
        promise = Promise("0.93 to 0.97", 0.93, 0.97)
        few = max(self.studies // 4, 20)
        bootstrapped = self.each(self.simulate("bootstrap", world, gain=gain, studies=few, resamples=499))
        return [
            error_rates.rate(
                "coverage of the interval of the mean",
                [_covers(item["difference"]["ci"], gain) for item in found],
                promise,
            ),
            error_rates.rate(
                "coverage of the interval of d_z", [_covers(i["effect"]["ci"], 1.0) for i in found], promise
            ),
            error_rates.rate(
                "coverage of the BCa interval (secondary; short at few seeds)",
                [_covers(item["robust"]["bootstrap_ci"], gain) for item in bootstrapped],
                None,
            ),
        ]

    def equivalence(self) -> list[Row]:
        """Return rows on the equivalence test: its level on the margin, its power at no difference."""
        alpha = self.settings.alpha
        margin = margin_from_slope(SLOPE, self.settings.equivalence)
        world = World()
        edge = self.simulate("margin", world, gain=margin, frameworks=len(self.frameworks))
        centre = self.simulate("centre", world)
        promise = Promise(f"at most {alpha:g}", high=alpha)
        any_claim = [any(item["equivalence"]["equivalent"] for item in study.values()) for study in edge]
        return [
            error_rates.rate(
                "false equivalence at the margin", _below(self.each(edge), "equivalence", "p", alpha), promise
            ),
            error_rates.rate("any false equivalence after Holm, at the margin", any_claim, promise),
            error_rates.rate(
                "equivalence shown when there is no difference",
                _below(self.each(centre), "equivalence", "p", alpha),
                None,
            ),
        ]

    def power(self) -> tuple[list[Row], list[Row]]:
        """Return the row of the largest gap between simulated power and formula, and the power curve."""
        alpha, world, n = self.settings.alpha, World(), len(self.settings.seeds)
        curve, rows = [], []
        for d_z in EFFECTS:
            found = self.each(self.simulate(f"power {d_z}", world, gain=d_z * world.difference_sd))
            formula = power(d_z, n, alpha)
            promise = Promise(f"{formula:.3f} ± 0.03", formula - 0.03, formula + 0.03)
            row = error_rates.rate(f"power at d_z = {d_z:g}", _below(found, "primary", "p", alpha), promise)
            curve.append({"d_z": d_z, "simulated": row["estimate"], "ci": row["ci"], "formula": formula})
            rows.append(row)
        return rows, curve

    def search(self) -> list[Row]:
        """Return rows on a null search with selection: what it says of its winner at each stage (in units of σ)."""
        found = simulate_search(
            self.stream("search"),
            searches=self.studies,
            candidates=35,
            finalists=3,
            finalist_seeds=3,
            seeds=len(self.settings.seeds),
            noise=1.0,
        )
        false = [bool(p < self.settings.alpha) for p in found["claim_t_p"]]
        claim = error_rates.mean("null search: gain of the frozen winner on fresh seeds (σ)", found["claim"], None)
        held = claim["ci"][0] <= 0 <= claim["ci"][1]
        return [
            error_rates.mean("null search: gain the search claims (σ)", found["naive"], None),
            error_rates.mean("null search: gain the re-ranking claims (σ)", found["selection"], None),
            {**claim, "promise": "0", "verdict": "holds within Monte-Carlo error" if held else "broken"},
            error_rates.rate(
                "null search: false rejections",
                false,
                Promise(f"at most {self.settings.alpha:g}", high=self.settings.alpha),
            ),
        ]

    def laws(self) -> list[Row]:
        """Return rows on the scaling law and the cross-framework comparison under the null."""
        alpha, rng, n = self.settings.alpha, self.stream("laws"), np.array([0.5e6, 1e6, 2e6, 4e6])
        mean_K = 1.0 + 30 * n**-0.3
        slopes, clustered, multiple, ranked = [], [], [], []
        for _ in range(self.studies // 2):
            shared = 0.0035 * rng.normal(size=(len(self.settings.seeds), 1))
            own = 0.0035 * rng.normal(size=(3, len(self.settings.seeds), 4))
            loss = {"standard": mean_K + shared + own[0], "evolved": mean_K + shared + own[1]}
            grid = scaling_law.Grid(
                ["a", "b", "c", "d"], list(self.settings.seeds), {"standard": n, "evolved": n}, loss, loss
            )
            found = scaling_law.analyse(grid, "simulated", alpha, resamples=0)
            slopes.append(found["slope_comparison"]["p"] < alpha)
            clustered.append(found["ancova"]["gain_in_slope"]["p"] < alpha)
            table_SV = (shared + own[:, :, 1].T)[:, :]
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


def _below(results: list[Result], block: str, key: str, alpha: float) -> list[bool]:
    return [bool(item[block][key] < alpha) for item in results]


def _seed_error(item: Result) -> float:
    return float(item["difference"]["sd"]) / math.sqrt(item["difference"]["pairs"])


def _covers(interval: list[float], truth: float) -> bool:
    return interval[0] <= truth <= interval[1]


def calibrate(
    validation: Validation,
    frameworks: list[str],
    tuning: Tuning,
    output: Path,
    *,
    studies: int = 2_000,
    seed: int = 0,
    preset: str | None = None,
) -> None:
    """Calibrate the analysis of this config on `studies` simulated studies; write `output` (schema "calibration").

    The Monte-Carlo error of a rate near .05 is ±.01 with 2,000 studies and ±.03 with 200.
    """
    run = Calibration(validation, frameworks, studies, seed)
    null_rows, p_values = run.null()
    power_rows, curve = run.power()
    rows = [
        *null_rows,
        *run.tuning(tuning),
        *run.intervals(),
        *run.equivalence(),
        *power_rows,
        *run.search(),
        *run.laws(),
    ]
    broken = [row["name"] for row in rows if row["verdict"] == "broken"]
    histogram = np.histogram([p for p in p_values if math.isfinite(p)], bins=20, range=(0, 1))[0]
    write_json(output, "calibration", {
        "studies": studies, "seeds": len(validation.seeds), "frameworks": len(frameworks), "alpha": validation.alpha,
        "trials": tuning.trials, "table": rows, "broken": broken, "world": vars(World()),
        "figure": {"p_histogram": [int(count) for count in histogram], "power_curve": curve},
        "sentence": f"{sum(row['verdict'] not in (None, 'broken') for row in rows)} of "
        f"{sum(row['verdict'] is not None for row in rows)} promises hold"
        + (f"; broken: {'; '.join(broken)}" if broken else ""),
        "provenance": provenance("evomix.statistics.calibration", preset=preset),
    })  # fmt: skip
