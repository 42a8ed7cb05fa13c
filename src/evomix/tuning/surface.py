"""The response surface of a tuning: a regularised polynomial through all trials, and the optimum that it supports.

The luckiest trial of many owes its rank to noise (winner's curse); a smooth surface averages the noise of all trials.
The noise in the chosen hyper-parameters is shared by every seed of a variant, so a steadier choice also keeps the error
rates of the later paired test. A quadratic alone would do worse than the luckiest trial where the loss has a cliff at
high learning rates or is steep at low ones, so the curve along the learning rate may have up to the sixth degree.
The noise of a trial may grow along it too: just below the cliff, where the best rates often lie, runs scatter many
times as much as elsewhere, and a surface with one noise for all would believe the lucky ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Term = tuple[int, ...]
"""A product of coordinates by their index: () the constant, (0,) linear, (0, 0) quadratic, (0, 3) an interaction."""

MINIMUM = 4
DEGREE = 6
_TRIALS_PER_TERM = 1.25
_FREEDOM = 0.6
"""Largest degrees of freedom per trial: a surface through every trial could not tell noise from shape."""
_PENALTIES = np.array([(first, other) for first in np.logspace(-5, 1, 10) for other in np.logspace(-3, 3, 10)])
"""Candidate penalties: of the terms in the first coordinate alone, and of all others."""
_GROWTHS = np.array([-1.0, 0.0, 1.0])
"""Candidate growths of the noise: change of the log of its standard deviation per coordinate of the first dimension.

At most one: with more, quiet trials far from the best learning rates would decide alone.
"""
_GROWTH_SD = 1.0
"""Prior spread of the growth around 0, so that few trials do not invent one."""
_LEAST_SQUARES = 1e-18


def terms(trials: int, active: tuple[int, ...]) -> list[Term]:
    """Return the terms that `trials` finished trials can carry.

    Always: the constant, every coordinate, and the powers of the first (the learning rate). Then the other squares,
    then interactions, each group when there are 1.25 trials per term with it (higher powers, which the penalty keeps
    small, not counted). `active` names the coordinates that vary.
    """
    if not active:
        return [()]
    first, *others = active
    chosen: list[Term] = [(), (first,), (first, first), *((other,) for other in others)]
    for group in ([(other, other) for other in others], list(combinations(active, 2))):
        if trials < _TRIALS_PER_TERM * (len(chosen) + len(group)):
            break
        chosen += group
    return chosen + [(first,) * power for power in range(3, DEGREE + 1)]


def _features(points: Array, wanted: list[Term]) -> Array:
    """Return (points, terms); a square is the Legendre polynomial (3u² − 1)/2, nearly orthogonal to the constant."""
    columns = []
    for term in wanted:
        column: Array = np.prod(points[:, list(term)], axis=1)
        square = len(term) == 2 and len(set(term)) == 1
        columns.append((3 * column - 1) / 2 if square else column)
    return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Surface:
    """A fitted surface: coefficients of its terms, their covariance, and the noise of a single trial.

    The noise has standard deviation `residual_sd` · exp(`growth` · (u − `centre`)), u the first active coordinate.
    """

    terms: list[Term]
    coefficients: Array
    covariance: Array
    penalties: tuple[float, float]
    degrees_of_freedom: float
    residual_sd: float
    growth: float
    centre: float
    first: int

    def noise(self, points: Array) -> Array:
        """Return the standard deviation of a single trial's loss at `points` (n, dimensions), nats per token."""
        sd: Array = self.residual_sd * np.exp(self.growth * (points[:, self.first] - self.centre))
        return sd

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Return the expected loss at `points` (n, dimensions) and its standard error, nats per token."""
        features = _features(points, self.terms)
        variance = ((features @ self.covariance) * features).sum(axis=1)
        return features @ self.coefficients, np.sqrt(np.maximum(variance, 0))

    def cautious_optimum(self, points: Array) -> int:
        """Return the index of the point with the least expected loss plus one standard error.

        Where the surface is ill known (corners of the space, few trials) an optimum has to be the better by more.
        """
        expected, error = self.predict(points)
        return int(np.argmin(expected + error))

    def draw(self, points: Array, stream: np.random.Generator, count: int) -> Array:
        """Return `count` surfaces drawn from the posterior, at `points`: (n, count), nats per token."""
        root = np.linalg.cholesky(self.covariance)
        normal = stream.standard_normal((len(root), count))
        drawn: Array = _features(points, self.terms) @ (self.coefficients[:, None] + root @ normal)
        return drawn


def expected_regret(draws: Array, chosen: int) -> float:
    """Return by how much point `chosen` is expected to be worse than the best, nats per token, from `Surface.draw`."""
    return float((draws[chosen] - draws.min(axis=0)).mean())


@dataclass(frozen=True)
class _Smoothing:
    """Penalties and growth of the noise with their log restricted likelihood (and prior), and what they make of it."""

    likelihood: float
    penalties: tuple[float, float]
    weighted: Array
    """Penalty of each term but the constant."""
    growth: float
    trust: Array
    """Inverse variance of each trial, relative: geometric mean 1."""
    squares: float
    freedom: float


def fit(points: Array, losses: Array, active: tuple[int, ...]) -> Surface:
    """Fit the surface to finished trials: `points` (n, dimensions) in [−1, 1], `losses` (n,) in nats per token.

    Ridge regression (Hoerl & Kennard 1970) with the constant unpenalised, read as a Gaussian prior on the
    coefficients, and noise whose logarithm is linear in the first coordinate (Harvey 1976). Two penalties and that
    slope maximise the restricted likelihood (Patterson & Thompson 1971); the covariance is the posterior's. Needs at
    least MINIMUM trials.
    """
    count, wanted = len(losses), terms(len(losses), active)
    features = _features(points, wanted)
    first = active[0] if active else 0
    place = points[:, first] - points[:, first].mean()
    growths = _GROWTHS if active else np.zeros(1)
    best = max(
        (_smooth(features, losses, wanted, active, place, float(growth)) for growth in growths),
        key=lambda smoothing: smoothing.likelihood,
    )
    trusted = features.T * best.trust
    inverse: Array = np.linalg.inv(trusted @ features + np.diag([0.0, *best.weighted])).astype(np.float64)
    variance = max(best.squares, _LEAST_SQUARES) / (count - 1)
    return Surface(
        wanted, inverse @ trusted @ losses, variance * inverse, best.penalties, best.freedom, variance**0.5,
        best.growth, float(points[:, first].mean()), first,
    )  # fmt: skip


def _smooth(
    features: Array, losses: Array, wanted: list[Term], active: tuple[int, ...], place: Array, growth: float
) -> _Smoothing:
    """Return the best pair of penalties for one growth of the noise.

    The restricted likelihood of a ridge with free constant, noise variance profiled out, is that of data scaled by
    their trust and freed from the constant:
    −½ [log|Λ + X'X| − log|Λ| + (n − 1) log(y'y − y'X (Λ + X'X)⁻¹ X'y) + log 1'W1], with log|W| = 0 here.
    """
    trust = np.exp(-2 * growth * place)
    scaled = features * np.sqrt(trust)[:, None]
    constant = scaled[:, 0] / np.linalg.norm(scaled[:, 0])
    response = losses * np.sqrt(trust)
    response = response - constant * (constant @ response)
    prior = -0.5 * (float(np.log(trust.sum())) + (growth / _GROWTH_SD) ** 2)
    if len(wanted) == 1:
        return _Smoothing(prior, (1.0, 1.0), np.zeros(0), growth, trust, float(response @ response), 1.0)
    free = scaled[:, 1:] - np.outer(constant, constant @ scaled[:, 1:])
    square, projection = free.T @ free, free.T @ response
    weights = np.array([_weight(term, active) for term in wanted[1:]])
    candidates = weights * np.where(_is_first(wanted, active)[1:], _PENALTIES[:, :1], _PENALTIES[:, 1:])
    inverses = np.linalg.inv(square + candidates[:, :, None] * np.eye(len(weights)))
    freedom = 1 + np.einsum("ctu,ut->c", inverses, square)
    squares = np.maximum(response @ response - projection @ inverses @ projection, _LEAST_SQUARES)
    determinants = -np.linalg.slogdet(inverses)[1] - np.log(candidates).sum(axis=1)
    likelihood = prior - 0.5 * (determinants + (len(losses) - 1) * np.log(squares))
    allowed = freedom <= max(_FREEDOM * len(losses), freedom.min())
    best = int(np.argmax(np.where(allowed, likelihood, -np.inf)))
    return _Smoothing(
        float(likelihood[best]), (float(_PENALTIES[best, 0]), float(_PENALTIES[best, 1])), candidates[best],
        growth, trust, float(squares[best]), float(freedom[best]),
    )  # fmt: skip


def _is_first(wanted: list[Term], active: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return which terms are in the first coordinate alone."""
    return np.array([set(term) == set(active[:1]) for term in wanted])


def _weight(term: Term, active: tuple[int, ...]) -> float:
    """Return the relative penalty within its group.

    In the first coordinate: 1 up to the square, then .2, .4, .8, 1.6 (powers of a small number need large factors).
    Otherwise: .3 for the batch size, whose effect is sure, 1 for other main effects and squares, 4 for interactions.
    """
    if set(term) == set(active[:1]):
        return 1.0 if len(term) < 3 else 0.2 * 2.0 ** (len(term) - 3)
    if term == active[-1:]:
        return 0.3
    return 1.0 if len(set(term)) == 1 else 4.0
