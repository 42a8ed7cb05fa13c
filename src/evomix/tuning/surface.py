"""The response surface of a tuning: a regularised quadratic through all trials, and the optimum that it supports.

The luckiest trial of many owes its rank to noise (winner's curse); a smooth surface averages the noise of all trials.
The noise in the chosen hyper-parameters is shared by every seed of a variant, so a steadier choice also keeps the error
rates of the later paired test.
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
_TRIALS_PER_TERM = 1.25
_FREEDOM = 0.6
"""Largest degrees of freedom per trial: a surface through every trial could not tell noise from shape."""
_PENALTIES: list[float] = np.logspace(-4, 3, 36).tolist()


def terms(trials: int, active: tuple[int, ...]) -> list[Term]:
    """Return the terms that `trials` finished trials can carry, the most telling groups first.

    Always: the constant, every coordinate, and the square of the first (the learning rate). Then the other squares,
    then interactions, each group when there are 1.25 trials per term with it. `active` names the coordinates that vary.
    """
    if not active:
        return [()]
    first, *others = active
    chosen: list[Term] = [(), (first,), (first, first), *((other,) for other in others)]
    for group in ([(other, other) for other in others], list(combinations(active, 2))):
        if trials < _TRIALS_PER_TERM * (len(chosen) + len(group)):
            break
        chosen += group
    return chosen


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
    """A fitted surface: coefficients of its terms, their covariance, and the noise of a single trial."""

    terms: list[Term]
    coefficients: Array
    covariance: Array
    penalty: float
    degrees_of_freedom: float
    residual_sd: float

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Return the expected loss at `points` (n, dimensions) and its standard error, nats per token."""
        features = _features(points, self.terms)
        variance = np.einsum("nt,tu,nu->n", features, self.covariance, features)
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


def fit(points: Array, losses: Array, active: tuple[int, ...]) -> Surface:
    """Fit the surface to finished trials: `points` (n, dimensions) in [−1, 1], `losses` (n,) in nats per token.

    Ridge regression (Hoerl & Kennard 1970) with the constant unpenalised, read as a Gaussian prior on the
    coefficients: the penalty maximises the restricted likelihood (Patterson & Thompson 1971), and the covariance is the
    posterior's. Needs at least MINIMUM trials.
    """
    count = len(losses)
    wanted = terms(count, active)
    features = _features(points, wanted)
    weights = np.array([0.0 if term == () else _weight(term, active) for term in wanted])
    square = features.T @ features

    def invert(penalty: float) -> Array:
        inverse: Array = np.linalg.inv(square + np.diag(penalty * weights)).astype(np.float64)
        return inverse

    honest = [item for item in _PENALTIES if np.trace(invert(item) @ square) <= _FREEDOM * count] or _PENALTIES[-1:]
    penalty = max(honest, key=lambda item: _restricted_likelihood(features, losses, item * weights))
    inverse = invert(penalty)
    coefficients = inverse @ features.T @ losses
    residual = losses - features @ coefficients
    # The prior's own penalty belongs to the sum of squares of the restricted likelihood.
    squares = float(residual @ residual) + float((penalty * weights) @ coefficients**2)
    variance = squares / (count - 1)
    freedom = float(np.trace(inverse @ square))
    return Surface(wanted, coefficients, variance * inverse, penalty, freedom, variance**0.5)


def _restricted_likelihood(features: Array, losses: Array, penalties: Array) -> float:
    """Return the restricted log-likelihood (up to a constant), noise variance profiled out."""
    count = len(losses)
    penalised = penalties > 0
    part = features[:, penalised]
    covariance = np.eye(count) + (part / penalties[penalised]) @ part.T
    inverse = np.linalg.inv(covariance)
    ones = np.ones(count)
    precision = float(ones @ inverse @ ones)
    centred = losses - float(ones @ inverse @ losses) / precision
    squares = float(centred @ inverse @ centred)
    if squares <= 0:
        return -np.inf
    _, log_determinant = np.linalg.slogdet(covariance)
    return float(-0.5 * (log_determinant + np.log(precision) + (count - 1) * np.log(squares)))


def _weight(term: Term, active: tuple[int, ...]) -> float:
    """Return the relative penalty: little where an effect is sure (learning rate, batch size), more on interactions."""
    if set(term) == {active[0]} or term == (active[-1],):
        return 0.1
    return 1.0 if len(set(term)) == 1 else 4.0
