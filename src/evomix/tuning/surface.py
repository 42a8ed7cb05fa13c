"""The response surface of a tuning: a regularised polynomial through all trials, and the optimum that it supports.

The luckiest trial of many owes its rank to noise (winner's curse); a smooth surface averages the noise of all trials.
The noise in the chosen hyper-parameters is shared by every seed of a variant, so a steadier choice also keeps the error
rates of the later paired test. A quadratic alone would do worse than the luckiest trial where the loss has a cliff at
high learning rates or is steep at low ones, so the curve along the learning rate may have up to the sixth degree.
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
    """A fitted surface: coefficients of its terms, their covariance, and the noise of a single trial."""

    terms: list[Term]
    coefficients: Array
    covariance: Array
    penalties: tuple[float, float]
    degrees_of_freedom: float
    residual_sd: float

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Return the expected loss at `points` (n, dimensions) and its standard error, nats per token."""
        features = _features(points, self.terms)
        variance = np.einsum("nt,tu,nu->n", features, self.covariance, features, optimize=True)
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
    coefficients: two penalties maximise the restricted likelihood (Patterson & Thompson 1971), and the covariance is
    the posterior's. Needs at least MINIMUM trials.
    """
    count = len(losses)
    wanted = terms(count, active)
    features = _features(points, wanted)
    weights = np.array([_weight(term, active) for term in wanted])
    penalties, weighted, squares, freedom = _penalise(
        features[:, 1:], losses, weights[1:], _is_first(wanted, active)[1:]
    )
    precision = features.T @ features + np.diag(np.concatenate([[0.0], weighted]))
    inverse: Array = np.linalg.inv(precision).astype(np.float64)
    variance = max(squares, _LEAST_SQUARES) / (count - 1)
    return Surface(wanted, inverse @ features.T @ losses, variance * inverse, penalties, freedom, variance**0.5)


def _penalise(
    features: Array, losses: Array, weights: Array, first: npt.NDArray[np.bool_]
) -> tuple[tuple[float, float], Array, float, float]:
    """Return the best pair of penalties, each term's penalty, the penalised sum of squares, the degrees of freedom.

    The restricted likelihood of a ridge with free constant, noise variance profiled out, is that of centred data:
    −½ [log|Λ + X'X| − log|Λ| + (n − 1) log(y'y − y'X (Λ + X'X)⁻¹ X'y)].
    """
    count = len(losses)
    if not features.shape[1]:
        return (1.0, 1.0), weights, float(np.sum((losses - losses.mean()) ** 2)), 1.0
    centred, response = features - features.mean(axis=0), losses - losses.mean()
    square, projection = centred.T @ centred, centred.T @ response
    candidates = weights * np.where(first, _PENALTIES[:, :1], _PENALTIES[:, 1:])
    inverses = np.linalg.inv(square + candidates[:, :, None] * np.eye(len(weights)))
    freedom = 1 + np.einsum("ctu,ut->c", inverses, square)
    squares = np.maximum(response @ response - projection @ inverses @ projection, _LEAST_SQUARES)
    determinants = -np.linalg.slogdet(inverses)[1] - np.log(candidates).sum(axis=1)
    likelihood = -0.5 * (determinants + (count - 1) * np.log(squares))
    allowed = freedom <= max(_FREEDOM * count, freedom.min())
    best = int(np.argmax(np.where(allowed, likelihood, -np.inf)))
    chosen = (float(_PENALTIES[best, 0]), float(_PENALTIES[best, 1]))
    return chosen, candidates[best], float(squares[best]), float(freedom[best])


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
