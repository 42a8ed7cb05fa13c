"""From losses to fitness: slope, paired gain, their noise, and the guard; pure arithmetic over finished trainings.

A slope alone can be gamed (a worse small model steepens it), so `slope` counts only with a mean paired gain above
−margin. Losses are nats per token, N counts non-embedding parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean, stdev

Losses = Mapping[str, Mapping[str, float]]
"""Size name: {training seed (as text): final loss}."""


def ordinary_slope(losses: Losses, parameters: Mapping[str, float]) -> float:
    """Return the least-squares slope of the seed-mean loss on ln N over the sizes (nats per e-fold of N).

    Raises ValueError when the sizes do not differ in N.
    """
    x = [math.log(parameters[size]) for size in losses]
    y = [fmean(seeds.values()) for seeds in losses.values()]
    centre, level = fmean(x), fmean(y)
    spread = sum((a - centre) ** 2 for a in x)
    if spread == 0:
        raise ValueError("a slope needs at least two sizes with different numbers of parameters")
    return sum((a - centre) * (b - level) for a, b in zip(x, y, strict=True)) / spread


def paired_gain(candidate: Losses, standard: Losses) -> float:
    """Return the mean over sizes of the mean over shared seeds of (standard − candidate), nats; positive is better."""
    return fmean(size_gain(candidate[size], standard[size]) for size in candidate)


def size_gain(candidate: Mapping[str, float], standard: Mapping[str, float]) -> float:
    """Return the mean over the candidate's seeds of (standard − candidate) at one size."""
    return fmean(standard[seed] - loss for seed, loss in candidate.items())


def best_possible_gain(finished: Losses, standard: Losses) -> float:
    """Return an upper bound of the mean paired gain when only some sizes are trained.

    A loss is never below zero, so an untrained size can gain at most the standard's own loss: a candidate whose bound
    misses the guard is refused whatever its remaining trainings would give.
    """
    gains = [
        size_gain(finished[size], seeds) if size in finished else fmean(seeds.values())
        for size, seeds in standard.items()
    ]
    return fmean(gains)


def only_seeds(losses: Losses, seeds: list[int]) -> dict[str, dict[str, float]]:
    """Return the losses of `seeds` alone."""
    return {size: {str(seed): values[str(seed)] for seed in seeds} for size, values in losses.items()}


def noise(losses: Losses, parameters: Mapping[str, float], seeds: int) -> dict[str, object]:
    """Return the standard deviations that chance alone gives, from independent repeats of the standard.

    `losses`: per size; `slope`: of a slope measured with `seeds` seeds; `gain`: of a mean gain against an independent
    repeat, an upper bound for the paired gain of a candidate. All None with fewer than two repeats.
    """
    repeats = list(next(iter(losses.values())))
    if len(repeats) < 2:
        return {"repeats": len(repeats), "losses": dict.fromkeys(losses), "slope": None, "gain": None}
    slopes = [ordinary_slope(only_seeds(losses, [int(seed)]), parameters) for seed in repeats]
    levels = [fmean(values[seed] for values in losses.values()) for seed in repeats]
    return {
        "repeats": len(repeats),
        "losses": {size: stdev(values.values()) for size, values in losses.items()},
        "slope": stdev(slopes) / math.sqrt(seeds),
        "gain": stdev(levels) * math.sqrt(2 / seeds),
    }


def fitness(kind: str, slope: float, gain: float) -> float:
    """Return the fitness, larger better: −slope (a steeper fall of the loss) or the mean paired gain."""
    return -slope if kind == "slope" else gain


def score(fitness_value: float, standard: float, sd: float | None) -> float:
    """Return OpenEvolve's score in (0, 1): ½ for the standard, ¾ at four noise standard deviations above it.

    OpenEvolve needs finite positive scores, larger better (a failure's 0 would beat a negative fitness); this one is
    strictly increasing in the fitness and never saturates in practice. An unknown `sd` counts as 1e-3 nats.
    """
    z = (fitness_value - standard) / max(sd or 1e-3, 1e-6)
    return 0.5 * (1 + z / (4 + abs(z)))


def shrunken(values: Mapping[str, float], sd: float | None) -> dict[str, float]:
    """Return search fitnesses pulled towards their mean by τ²/(τ²+σ²), the cure of the winner's curse.

    σ is the noise of one measurement, τ² the variance between candidates beyond it (not below zero).
    """
    if len(values) < 2 or not sd:
        return dict(values)
    centre, variance = fmean(values.values()), stdev(values.values()) ** 2
    reliability = max(0.0, variance - sd**2) / variance if variance else 0.0
    return {name: centre + reliability * (value - centre) for name, value in values.items()}
