"""Simulated studies: losses with the noise of real trainings, whose truth is known.

A study draws what the workflow would measure (tuning trials, then paired final losses), so that the analysis can be
run on it unchanged and its error rates counted. Legend: T trials, D hyper-parameters (coordinates in [−1, 1]), n seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evomix.statistics.paired import Floats


@dataclass(frozen=True)
class World:
    """The truth of simulated trainings; losses in nats per token, orders of magnitude of the predecessor's runs."""

    level: float = 1.5
    """Final loss of the standard at its best hyper-parameters."""
    seed_sd: float = 0.005
    """Spread of final losses over seeds."""
    correlation: float = 0.5
    """Correlation of the two arms over seeds (same data order and initial values)."""
    trial_sd: float = 0.005
    """Spread of a tuning trial around the response surface."""
    curvature: tuple[float, ...] = (0.026, 0.002, 0.002, 0.002)
    """Loss added one coordinate away from the optimum: learning rate, warm-up, weight decay, batch size."""
    skew: float = 0.3
    """Asymmetry of the learning rate's penalty: too high costs more than too low, so no quadratic is exact."""
    optimum_range: float = 0.6
    """Optima lie uniformly in ± this (each variant has its own)."""
    degrees: float = np.inf
    """Degrees of freedom of the noise (Student's t scaled to the same spread); infinite is normal."""
    divergence: float = 0.0
    """Probability that a run diverges, in either arm."""

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        """Return noise of unit spread."""
        if not np.isfinite(self.degrees):
            return rng.normal(size=shape)
        draws: Floats = rng.standard_t(self.degrees, size=shape) * np.sqrt((self.degrees - 2) / self.degrees)
        return draws

    @property
    def difference_sd(self) -> float:
        """Spread of a paired difference over seeds."""
        return float(self.seed_sd * np.sqrt(2 * (1 - self.correlation)))

    def optimum(self, rng: np.random.Generator) -> Floats:
        """Return a variant's best hyper-parameters, shape (D,)."""
        return rng.uniform(-self.optimum_range, self.optimum_range, size=len(self.curvature))

    def penalty(self, points_TD: Floats, optimum_D: Floats) -> Floats:
        """Return the loss that hyper-parameters cost against the variant's best, shape (T,)."""
        away_TD = points_TD - optimum_D
        cost_TD = np.array(self.curvature) * away_TD**2
        cost_TD[:, 0] *= np.exp(self.skew * away_TD[:, 0])
        total: Floats = cost_TD.sum(axis=1)
        return total

    def trials(self, rng: np.random.Generator, points_TD: Floats, optimum_D: Floats) -> Floats:
        """Return the losses of tuning trials, shape (T,)."""
        return self.level + self.penalty(points_TD, optimum_D) + self.trial_sd * self.noise(rng, (len(points_TD),))

    def finals(
        self, rng: np.random.Generator, seeds: int, gain: float = 0.0, penalties: tuple[float, float] = (0.0, 0.0)
    ) -> tuple[Floats, Floats]:
        """Return final losses of standard and evolved over shared seeds, each (n,); NaN where a run diverged.

        `penalties` are what each arm's chosen hyper-parameters cost; every seed of an arm pays the same.
        """
        shared = np.sqrt(self.correlation) * self.noise(rng, (seeds,))
        own = np.sqrt(1 - self.correlation) * self.noise(rng, (2, seeds))
        means = np.array([[self.level + penalties[0]], [self.level - gain + penalties[1]]])
        losses = means + self.seed_sd * (shared + own)
        losses[rng.random((2, seeds)) < self.divergence] = np.nan
        return losses[0], losses[1]
