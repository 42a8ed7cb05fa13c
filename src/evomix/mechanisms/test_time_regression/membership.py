"""Does a mechanism solve the regression that it declares? Solved again here, one token at a time, by other means.

Local fits and ridge are solved as weighted least-squares problems on the raw points; online estimators are run by
automatic differentiation of the declared loss, or by solving the proximal step's normal equations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from evomix.mechanisms.measurement import LONGEST, Measurement, Probe, difference, linearity
from evomix.mechanisms.operators import segment_sums
from evomix.mechanisms.test_time_regression.contract import TestTimeRegression
from evomix.mechanisms.test_time_regression.estimators import LOCAL, Points

RESOLVED = 1e-6
"""Tolerance of the comparison with the regression solved again."""
PLACES = (0, 1, 2, 7, 15, 16, 31, 32, 33, 63, 64, 65, LONGEST - 1)
"""Tokens at which the regression is solved again: the first ones, and both sides of usual chunk borders."""


def measure(mechanism: TestTimeRegression, probe: Probe) -> list[Measurement]:
    """Run all tests of membership."""
    return [
        *linearity(mechanism, probe),
        _signs(mechanism, probe),
        *_kernel(mechanism, probe),
        _solved(mechanism, probe),
        _recall(mechanism),
    ]


def _solved(mechanism: TestTimeRegression, probe: Probe) -> Measurement:
    """Test T1: the output is the prediction of the declared regression."""
    x, v = probe.x(1, LONGEST)[0], probe.v(1, LONGEST)[0]
    solved = resolve(mechanism.declaration.estimator, mechanism.points(x), v, PLACES)
    gap = difference(mechanism(x, v)[:, list(PLACES)], solved)
    return Measurement("T1", "the output solves the declared regression", gap, RESOLVED)


def _signs(mechanism: TestTimeRegression, probe: Probe) -> Measurement:
    """Count weights that are no weights: decays above one, negative importance, penalties that are not positive."""
    points = mechanism.points(probe.x(2, 17))
    faults = 0
    if points.log_decay_BHT is not None:
        faults += int((points.log_decay_BHT > 0).sum())
    if points.importance_BHT is not None:
        faults += int((points.importance_BHT < 0).sum())
    if points.penalty is not None:
        faults += int((points.penalty <= 0).sum())
    return Measurement("T0", "decay ≤ 1, importance ≥ 0, penalty > 0", float(faults), 0.0)


def _kernel(mechanism: TestTimeRegression, probe: Probe) -> list[Measurement]:
    """See that the kernel of a query and a key does not depend on other queries and keys."""
    points = mechanism.points(probe.x(2, 12))
    if points.log_kernel_BHTT is None:
        return []
    query, key = points.query_BHTN.clone(), points.key_BHTN.clone()
    query[..., 6:, :] = probe.normal(*query[..., 6:, :].shape, name="other query")
    key[..., 6:, :] = probe.normal(*key[..., 6:, :].shape, name="other key")
    gap = difference(mechanism.log_kernel(query, key)[..., :6, :6], points.log_kernel_BHTT[..., :6, :6])
    return [Measurement("T2", "the kernel depends on its query and its key only", gap, 1e-9)]


def _recall(mechanism: TestTimeRegression) -> Measurement:
    """Test T3: with gates opened and orthonormal keys, a stored value is recalled exactly."""
    size = mechanism.head_width
    eye = torch.eye(size, dtype=torch.float64).expand(mechanism.heads, size, size)
    value = torch.linspace(-1, 1, mechanism.heads * size * 3, dtype=torch.float64).reshape(mechanism.heads, size, 3)
    estimator = mechanism.declaration.estimator
    points = Points(
        query_BHTN=eye,
        key_BHTN=eye,
        log_kernel_BHTT=80.0 * eye if estimator in LOCAL else None,
        importance_BHT=torch.full(
            (mechanism.heads, size), 1e9 if estimator == "proximal" else 1.0, dtype=torch.float64
        ),
        penalty=torch.full((size,), 1e-9, dtype=torch.float64),
        displacement_BHTN=torch.zeros_like(eye),
        steps=mechanism.declaration.steps,
    )
    return Measurement(
        "T3", "opened gates recall orthonormal keys", difference(mechanism.solve(points, value), value), RESOLVED
    )


def resolve(estimator: str, points: Points, v_HTP: Tensor, places: Sequence[int]) -> Tensor:
    """Return y at the tokens `places`, (H, places, P): the declared regression solved anew for every head and token."""
    solver = _RESOLVERS[estimator]
    return torch.stack([torch.stack(solver(_head(points, h), v, places)) for h, v in enumerate(v_HTP)])


def _head(points: Points, h: int) -> Points:
    def pick(z: Tensor | None) -> Tensor | None:
        return None if z is None else z[h]

    penalty = None if points.penalty is None else points.penalty.expand(points.query_BHTN.shape)[h]
    return Points(
        points.query_BHTN[h], points.key_BHTN[h], pick(points.log_kernel_BHTT), pick(points.log_decay_BHT),
        pick(points.importance_BHT), penalty, pick(points.displacement_BHTN), points.steps,
    )  # fmt: skip


def _log_weights(points: Points, t: int) -> Tensor:
    """Return log of Γ_{t,i} β_i for i ≤ t."""
    tokens = points.key_BHTN.shape[0]
    zero = torch.zeros(tokens, dtype=torch.float64)
    decay = zero if points.log_decay_BHT is None else points.log_decay_BHT
    weight = zero if points.importance_BHT is None else points.importance_BHT.log()
    return segment_sums(decay)[t, : t + 1] + weight[: t + 1]


def _local(points: Points, v: Tensor, places: Sequence[int]) -> list[Tensor]:
    """Fit [1, k − q] (or [1] alone) to the values by weighted least squares with stacked penalty rows."""
    rows = []
    for t in places:
        assert points.log_kernel_BHTT is not None
        weight = torch.softmax(points.log_kernel_BHTT[t, : t + 1] + _log_weights(points, t), 0)
        root = weight.sqrt().unsqueeze(-1)
        ones, right = root, root * v[: t + 1]
        if points.penalty is not None:
            design = torch.cat([ones, root * (points.key_BHTN[: t + 1] - points.query_BHTN[t])], 1)
            penalty = torch.cat([torch.zeros(points.penalty.shape[-1], 1), points.penalty[t].sqrt().diag()], 1)
            design = torch.cat([design, penalty.to(design.dtype)])
            right = torch.cat([right, right.new_zeros(points.penalty.shape[-1], v.shape[-1])])
        else:
            design = ones
        rows.append(torch.linalg.lstsq(design, right, driver="gelsd").solution[0])
    return rows


def _local_constant(points: Points, v: Tensor, places: Sequence[int]) -> list[Tensor]:
    return _local(points._replace(penalty=None), v, places)


def _local_linear_step(points: Points, v: Tensor, places: Sequence[int]) -> list[Tensor]:
    """One unit gradient step on ½ Σ w ‖v − v̄ − B (k − k̄)‖² from B = 0, by automatic differentiation."""
    rows = []
    for t in places:
        assert points.log_kernel_BHTT is not None
        assert points.displacement_BHTN is not None
        weight = torch.softmax(points.log_kernel_BHTT[t, : t + 1] + _log_weights(points, t), 0)
        key, value = points.key_BHTN[: t + 1], v[: t + 1]
        key_mean, value_mean = weight @ key, weight @ value
        with torch.enable_grad():
            slope = torch.zeros(key.shape[-1], value.shape[-1], dtype=v.dtype, requires_grad=True)
            error = (value - value_mean - (key - key_mean) @ slope).square().sum(-1)
            (gradient,) = torch.autograd.grad(0.5 * (weight * error).sum(), slope)
        rows.append(value_mean - points.displacement_BHTN[t] @ gradient)
    return rows


def _ridge_slope(points: Points, v: Tensor, t: int) -> Tensor:
    """Weighted least squares of the values on the keys up to t, (N, P), with stacked penalty rows."""
    assert points.penalty is not None
    root = (0.5 * _log_weights(points, t)).exp().unsqueeze(-1)
    design = torch.cat([root * points.key_BHTN[: t + 1], points.penalty[t].sqrt().diag()])
    right = torch.cat([root * v[: t + 1], v.new_zeros(points.penalty.shape[-1], v.shape[-1])])
    slope: Tensor = torch.linalg.lstsq(design, right, driver="gelsd").solution
    return slope


def _ridge(points: Points, v: Tensor, places: Sequence[int]) -> list[Tensor]:
    return [points.query_BHTN[t] @ _ridge_slope(points, v, t) for t in places]


def _residual(points: Points, v: Tensor, places: Sequence[int]) -> list[Tensor]:
    """Take the residuals of the ridge fit at its points, average them by the kernel, and add the fit at the query."""
    rows = []
    for t in places:
        assert points.log_kernel_BHTT is not None
        slope = _ridge_slope(points, v, t)
        weight = torch.softmax(points.log_kernel_BHTT[t, : t + 1] + _log_weights(points, t), 0)
        rows.append(points.query_BHTN[t] @ slope + weight @ (v[: t + 1] - points.key_BHTN[: t + 1] @ slope))
    return rows


def _online(
    points: Points, v: Tensor, places: Sequence[int], step: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
) -> list[Tensor]:
    state = v.new_zeros(points.key_BHTN.shape[-1], v.shape[-1])
    one = v.new_ones(())
    rows = []
    for t in range(max(places) + 1):
        if points.log_decay_BHT is not None:
            state = points.log_decay_BHT[t].exp() * state
        rate = one if points.importance_BHT is None else points.importance_BHT[t]
        state = step(state, points.key_BHTN[t], v[t], rate)
        if t in places:
            rows.append(points.query_BHTN[t] @ state)
    return rows


def _online_gradient(points: Points, v: Tensor, places: Sequence[int]) -> list[Tensor]:
    def step(state: Tensor, key: Tensor, value: Tensor, rate: Tensor) -> Tensor:
        for _ in range(points.steps):
            with torch.enable_grad():
                free = state.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(0.5 * (value - key @ free).square().sum(), free)
            state = state - rate * gradient
        return state

    return _online(points, v, places, step)


def _proximal(points: Points, v: Tensor, places: Sequence[int]) -> list[Tensor]:
    def step(state: Tensor, key: Tensor, value: Tensor, rate: Tensor) -> Tensor:
        system = torch.eye(key.shape[0], dtype=key.dtype) + rate * torch.outer(key, key)
        solved: Tensor = torch.linalg.solve(system, state + rate * torch.outer(key, value))
        return solved

    return _online(points, v, places, step)


_RESOLVERS: dict[str, Callable[[Points, Tensor, Sequence[int]], list[Tensor]]] = {
    "local_constant": _local_constant,
    "local_linear": _local,
    "local_linear_step": _local_linear_step,
    "ridge": _ridge,
    "residual": _residual,
    "online_gradient": _online_gradient,
    "proximal": _proximal,
}
