"""Many simulated studies through the confirmatory analysis of the workflow itself (`paired_study.analyse`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from evomix.settings import Validation
from evomix.statistics import error_rates
from evomix.statistics.error_rates import Promise
from evomix.statistics.paired_study import Pairs, analyse
from evomix.statistics.simulation import World
from evomix.streams import numpy_stream

SLOPE = -0.2
"""Slope of the simulated standard (nats per ln N): sets the equivalence margin."""
Row = dict[str, Any]
Result = dict[str, Any]


class Studies:
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


def below(results: list[Result], block: str, key: str, alpha: float) -> list[bool]:
    """Return for each analysis whether the p-value at `block`.`key` is below alpha."""
    return [bool(item[block][key] < alpha) for item in results]


def covers(interval: list[float], truth: float) -> bool:
    """Return whether the interval holds the truth (an interval that does not exist does not)."""
    return interval[0] <= truth <= interval[1]
