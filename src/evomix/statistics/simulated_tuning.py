"""Tuning inside simulated studies: the workflow's own design, response surface and cautious choice.

The choice repeats the few lines of `evomix.tuning.choice` on arrays; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from evomix.settings import Tuning
from evomix.statistics import error_rates
from evomix.statistics.error_rates import Promise
from evomix.statistics.paired import Floats
from evomix.statistics.paired_study import Pairs
from evomix.statistics.simulated_studies import Result, Row, Studies, covers
from evomix.statistics.simulation import World
from evomix.tuning import sharing, surface
from evomix.tuning.design import points
from evomix.tuning.search_space import coordinates, dimensions, grid

DRAWS = 60
"""Surfaces drawn for a choice's expected regret (the workflow draws more; its mean is all that is used)."""
ARMS = ("standard", "evolved")


@dataclass(frozen=True)
class Choice:
    """What the hyper-parameters of both arms cost (nats above the grid's best), and how they widen the noise."""

    penalties: tuple[float, float]
    scatters: tuple[float, float]


@dataclass(frozen=True)
class Tuned:
    """The choices of both arms, by rule, and the regrets that their surfaces expect of the cautious ones.

    `together`: whether the evolved arm took the standard's.
    """

    cautious: Choice
    luckiest: Choice
    expected_regrets: dict[str, float]
    together: bool


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

    def fit(self, losses_T: Floats) -> surface.Surface:
        """Return the response surface of one arm's trials."""
        return surface.fit(self.points_TD, losses_T, self.active)

    def regret(self, fitted: surface.Surface, index: int, rng: np.random.Generator, draws: int = DRAWS) -> float:
        """Return the expected regret (nats per token) of a point of the grid."""
        return surface.expected_regret(fitted.draw(self.grid_GD, rng, draws), index)

    def tune(self, world: World, rng: np.random.Generator) -> Tuned:
        """Tune both arms of one simulated comparison: the evolved takes the standard's choice unless it differs."""
        optima = world.optima(rng)
        losses = world.trials(rng, self.points_TD, optima)
        together = sharing.difference_p(self.points_TD, losses[1] - losses[0], self.active, rng) > sharing.LEVEL
        standard, evolved = (self.fit(losses_T) for losses_T in losses)
        first = standard.cautious_optimum(self.grid_GD)
        chosen = [first, first if together else evolved.cautious_optimum(self.grid_GD)]
        regrets = {
            arm: self.regret(fitted, index, rng)
            for arm, fitted, index in zip(ARMS, (standard, evolved), chosen, strict=True)
        }
        luckiest = [self.points_TD[np.argmin(losses_T)] for losses_T in losses]
        return Tuned(
            self._cost(world, optima, [self.grid_GD[index] for index in chosen]),
            self._cost(world, optima, luckiest),
            regrets,
            together,
        )

    def _cost(self, world: World, optima: Sequence[Floats], chosen: Sequence[Floats]) -> Choice:
        """Return what the points chosen for both arms cost."""
        penalties, scatters = [], []
        for optimum, point in zip(map(world.final, optima), chosen, strict=True):
            best = world.surface(self.grid_GD, optimum).min()
            penalties.append(float(world.surface(point[None], optimum)[0] - best))
            scatters.append(float(world.scatter(point[None], optimum)[0]))
        return Choice((penalties[0], penalties[1]), (scatters[0], scatters[1]))


WORLDS = {
    "equal variants": World(optimum_shift=0.0),
    "a moving optimum": World(horizon=0.2),
    "growing noise and a moving optimum": World(growth=2.0, horizon=0.2),
}
"""Worlds that are harder on a tuning, one way at a time and both.

Best learning rates fall by a fifth when trainings double in length (exponent −.32, Bjorck et al. 2024), which is .2
coordinates; beside a cliff, trainings scatter seven times as much one coordinate above the best learning rate.
"""


def tuning_rows(run: Studies, tuning: Tuning) -> list[Row]:
    """Return rows under the null with every variant tuned: as the workflow does it, and in two careless ways.

    Other worlds than the usual one see the workflow's way alone, and one framework.
    """
    found, tuned = _studies(
        run, tuning, World(), run.frameworks, (("cautious", True), ("cautious", False), ("luckiest", False))
    )
    protocol, ignored, luckiest = found
    last = [item["difference"] | item["primary"] for item in run.each(protocol)]
    wider = [item["standard_error"] * np.sqrt(item["pairs"]) / item["sd"] for item in last]
    rows = [
        *_rows(run, "full protocol, tuning included", protocol, confirmed=True),
        *_rows(run, "tuned by surface, its noise ignored", ignored, confirmed=False),
        *_rows(run, "retrained at the luckiest trial", luckiest, confirmed=False),
        _regret(f"regret of the choice after {tuning.trials} trials (nats)", tuned, "cautious"),
        _regret(f"regret of the luckiest of {tuning.trials} trials (nats)", tuned, "luckiest"),
        _together("variants tuned together", tuned),
        error_rates.mean("widening of the standard error by the tuning's noise (factor)", np.array(wider), None),
    ]
    for name, world in WORLDS.items():
        (protocol,), tuned = _studies(run, tuning, world, run.frameworks[:1], (("cautious", True),))
        rows += _rows(run, f"tuning included, {name}", protocol, confirmed=True)
        rows.append(_together(f"variants tuned together, {name}", tuned))
    return rows


def _together(name: str, tuned: Sequence[Tuned]) -> Row:
    return error_rates.rate(name, [item.together for item in tuned], None)


def _studies(
    run: Studies, tuning: Tuning, world: World, frameworks: Sequence[str], rules: Sequence[tuple[str, bool]]
) -> tuple[list[list[dict[str, Result]]], list[Tuned]]:
    """Return the analyses of null studies by rule (whose choice, and whether its noise is counted).

    Also returns the tunings of each study's first framework. All rules see the same trials and the same final noise.
    """
    tuner, rng, seeds = Tuner.of(tuning), run.stream("tuning"), run.settings.seeds
    found: list[list[dict[str, Result]]] = [[] for _ in rules]
    firsts = []
    for _ in range(run.studies):
        tuned = [tuner.tune(world, rng) for _ in frameworks]
        firsts.append(tuned[0])
        state = rng.bit_generator.state
        for results, (rule, noise) in zip(found, rules, strict=True):
            rng.bit_generator.state = state
            results.append(run.analyse([
                Pairs(
                    framework,
                    seeds,
                    *world.finals(rng, len(seeds), 0.0, *astuple(getattr(choices, rule))),
                    choices.expected_regrets if noise else None,
                )
                for framework, choices in zip(frameworks, tuned, strict=True)
            ]))  # fmt: skip
    return found, firsts


def _rows(run: Studies, name: str, found: list[dict[str, Result]], *, confirmed: bool) -> list[Row]:
    """Return the false rejections and the coverage of one rule; `confirmed` when PROTOCOL.md promises them."""
    covered = [covers(item["difference"]["ci"], 0.0) for item in run.each(found)]
    promise = Promise("0.93 or more", 0.93) if confirmed else None
    return [
        *run.rejections(name, found, run.settings.alpha + 0.02 if confirmed else None),
        error_rates.rate(f"coverage of the mean's interval, {name}", covered, promise),
    ]


def _regret(name: str, tuned: Sequence[Tuned], rule: str) -> Row:
    return error_rates.mean(name, np.array([np.mean(getattr(item, rule).penalties) for item in tuned]), None)
