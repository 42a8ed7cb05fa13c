"""Tuning inside simulated studies: the workflow's own design, response surface and cautious choice.

The choice repeats the three lines of `evomix.tuning.choice` on arrays; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from evomix.settings import Tuning
from evomix.statistics import error_rates
from evomix.statistics.error_rates import Promise
from evomix.statistics.paired import Floats
from evomix.statistics.paired_study import Pairs
from evomix.statistics.simulated_studies import Result, Row, Studies, covers
from evomix.statistics.simulation import World
from evomix.tuning import surface
from evomix.tuning.design import points
from evomix.tuning.search_space import coordinates, dimensions, grid

DRAWS = 60
"""Surfaces drawn for a choice's expected regret (the workflow draws more; its mean is all that is used)."""
ARMS = ("standard", "evolved")


@dataclass(frozen=True)
class Tuned:
    """What the choices of both arms cost, by rule: losses above the best point of the grid, and regrets expected."""

    cautious: tuple[float, float]
    luckiest: tuple[float, float]
    expected_regrets: dict[str, float]


@dataclass(frozen=True)
class Tuner:
    """Chooses hyper-parameters from noisy trials; `points_TD` and `grid_GD` are coordinates in [−1, 1]."""

    points_TD: Floats
    grid_GD: Floats
    active: tuple[int, ...]

    @classmethod
    def of(cls, tuning: Tuning) -> Tuner:
        """Return the tuner of a config: its trials and its search space."""
        space = dimensions(tuning)
        active = tuple(index for index, dimension in enumerate(space) if dimension.active)
        return cls(coordinates(space, points(tuning)), grid(space), active)

    def choose(self, losses_T: Floats, rng: np.random.Generator, draws: int = DRAWS) -> tuple[int, float]:
        """Return the chosen point of the grid and its expected regret (nats per token)."""
        fitted = surface.fit(self.points_TD, losses_T, self.active)
        expected_G, error_G = fitted.predict(self.grid_GD)
        index = int(np.argmin(expected_G + error_G))
        drawn = fitted.draw(self.grid_GD, rng, draws)
        return index, float((drawn[index] - drawn.min(axis=0)).mean())

    def tune(self, world: World, rng: np.random.Generator) -> Tuned:
        """Tune both arms of one simulated comparison, each on its own trials."""
        optima = world.optima(rng)
        cautious, luckiest, expected = [], [], {}
        for arm, optimum, losses_T in zip(ARMS, optima, world.trials(rng, self.points_TD, optima), strict=True):
            index, expected[arm] = self.choose(losses_T, rng)
            truth_G = world.surface(self.grid_GD, optimum)
            best = float(truth_G.min())
            cautious.append(float(truth_G[index]) - best)
            lucky = int(np.argmin(losses_T))
            luckiest.append(float(world.surface(self.points_TD[[lucky]], optimum)[0]) - best)
        return Tuned((cautious[0], cautious[1]), (luckiest[0], luckiest[1]), expected)


def tuning_rows(run: Studies, tuning: Tuning, world: World) -> list[Row]:
    """Return rows under the null with every variant tuned: as the workflow does it, and in two careless ways."""
    tuner, rng, seeds = Tuner.of(tuning), run.stream("tuning"), run.settings.seeds
    protocol, ignored, luckiest, costs = [], [], [], []
    for _ in range(run.studies):
        tuned = [tuner.tune(world, rng) for _ in run.frameworks]
        state = rng.bit_generator.state

        def study(rule: str, noise: bool, tuned: list[Any] = tuned, state: Any = state) -> dict[str, Result]:
            rng.bit_generator.state = state  # the same final noise under every rule
            return run.analyse(
                [
                    Pairs(
                        framework,
                        seeds,
                        *world.finals(rng, len(seeds), 0.0, getattr(choice, rule)),
                        choice.expected_regrets if noise else None,
                    )
                    for framework, choice in zip(run.frameworks, tuned, strict=True)
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
        rows += run.rejections(name, found, run.settings.alpha + 0.02 if confirmed else None)
        covered = [covers(item["difference"]["ci"], 0.0) for item in run.each(found)]
        promise = Promise("0.93 or more", 0.93) if confirmed else None
        rows.append(error_rates.rate(f"coverage of the mean's interval, {name}", covered, promise))
    last = [item["difference"] | item["primary"] for item in run.each(protocol)]
    wider = [item["standard_error"] * np.sqrt(item["pairs"]) / item["sd"] for item in last]
    return [
        *rows,
        error_rates.mean(f"regret of the choice after {tuning.trials} trials (nats)", regret[:, 0], None),
        error_rates.mean(f"regret of the luckiest of {tuning.trials} trials (nats)", regret[:, 1], None),
        error_rates.mean("widening of the standard error by the tuning's noise (factor)", np.array(wider), None),
    ]
