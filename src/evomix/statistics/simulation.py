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
    """Spread of losses over seeds, of final runs and of tuning trials."""
    correlation: float = 0.5
    """Correlation of the two arms over seeds and trials (same data order and initial values)."""
    curvature: tuple[float, float, float] = (0.026, 0.002, 0.003)
    """Loss one coordinate away from the optimum of learning rate (.02 per squared ln), warm-up, weight decay."""
    skew: float = 0.3
    """Asymmetry of the learning rate's penalty: too high costs more than too low, so no quadratic is exact."""
    batch: float = 0.015
    """Loss that the largest batch saves against the middle one; at equal steps a larger batch sees more text."""
    interaction: float = 0.004
    """A larger batch wants a higher learning rate: loss saved when both lie one coordinate up."""
    optimum_range: float = 0.6
    """The standard's optima lie uniformly in ± this."""
    optimum_shift: float = 0.3
    """Spread of the evolved variant's optima around the standard's."""
    degrees: float = np.inf
    """Degrees of freedom of the noise (Student's t scaled to the same spread); infinite is normal."""
    divergence: float = 0.0
    """Probability that a run diverges, in either arm."""
    growth: float = 0.0
    """Growth of the noise with the learning rate: change of the log of its spread per coordinate, 0 at the optimum."""
    horizon: float = 0.0
    """How far the best learning rate of a whole training lies below that of the shorter trials, in coordinates."""

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

    def optima(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Return the best learning rate, warm-up and weight decay of both arms, each (3,) in coordinates."""
        standard = rng.uniform(-self.optimum_range, self.optimum_range, size=3)
        return standard, np.clip(standard + rng.normal(0, self.optimum_shift, size=3), -1, 1)

    def surface(self, points_TD: Floats, optimum: Floats) -> Floats:
        """Return the loss that hyper-parameters add to the level, shape (T,); D is 4, the batch size last."""
        away = points_TD[:, :3] - optimum
        cost = np.array(self.curvature) * away**2
        cost[:, 0] *= np.exp(self.skew * away[:, 0])
        rate, batch = points_TD[:, 0], points_TD[:, 3]
        added: Floats = cost.sum(axis=1) - self.batch * batch - self.interaction * rate * batch
        return added

    def final(self, optimum: Floats) -> Floats:
        """Return the optimum of whole trainings where that of the trials is `optimum`, both (3,)."""
        moved: Floats = optimum - np.array([self.horizon, 0.0, 0.0])
        return moved

    def scatter(self, points_TD: Floats, optimum: Floats) -> Floats:
        """Return the spread of losses at hyper-parameters over that at the optimum, shape (T,)."""
        factor: Floats = np.exp(self.growth * (points_TD[:, 0] - optimum[0]))
        return factor

    def trials(self, rng: np.random.Generator, points_TD: Floats, optima: tuple[Floats, Floats]) -> list[Floats]:
        """Return the losses of both arms' tuning trials, each (T,); the arms share design and seed."""
        noise = self.paired_noise(rng, len(points_TD))
        return [
            self.level + self.surface(points_TD, optimum) + self.scatter(points_TD, optimum) * noise_T
            for optimum, noise_T in zip(optima, noise, strict=True)
        ]

    def paired_noise(self, rng: np.random.Generator, count: int) -> Floats:
        """Return noise of both arms, shape (2, count), correlated between them."""
        shared, own = self.noise(rng, (count,)), self.noise(rng, (2, count))
        drawn: Floats = self.seed_sd * (np.sqrt(self.correlation) * shared + np.sqrt(1 - self.correlation) * own)
        return drawn

    def finals(
        self,
        rng: np.random.Generator,
        seeds: int,
        gain: float = 0.0,
        penalties: tuple[float, float] = (0.0, 0.0),
        scatters: tuple[float, float] = (1.0, 1.0),
    ) -> tuple[Floats, Floats]:
        """Return final losses of standard and evolved over shared seeds, each (n,); NaN where a run diverged.

        `penalties` are what each arm's chosen hyper-parameters cost, every seed of an arm pays the same; `scatters`
        by how much they widen the noise.
        """
        means = np.array([[self.level + penalties[0]], [self.level - gain + penalties[1]]])
        losses = means + np.array(scatters)[:, None] * self.paired_noise(rng, seeds)
        losses[rng.random((2, seeds)) < self.divergence] = np.nan
        return losses[0], losses[1]
