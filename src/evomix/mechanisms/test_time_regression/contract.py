"""Contract of the framework test-time regression (Wang et al. 2025, arXiv 2501.12352).

Shapes: B batch, T tokens, D width, H heads, N key width, P value width; the batch dimension may be absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evomix.mechanisms import contract
from evomix.mechanisms.test_time_regression.estimators import LOCAL, SOLVERS, Estimator, Points


@dataclass(frozen=True)
class Declaration(contract.Declaration):
    """The regression that is solved at every token; the certificate solves it again by other means and compares."""

    estimator: Estimator
    """Function class and solver, see `TestTimeRegression`."""
    steps: int = 1
    """Gradient steps per token, for `online_gradient` only."""


class TestTimeRegression(contract.Mechanism):
    """At every token a regression of values on keys is solved, and its prediction at the query is the output.

        m_t = argmin_m Σ_{i≤t} w_{t,i} ‖v_i − m(k_i)‖² + penalty,   y_t = m_t(q_t)

    The declared `estimator` states the function class, the weights w and the solver:

    - `local_constant`: m constant, w_{t,i} ∝ γ β_i K(q_t, k_i) (Nadaraya–Watson; softmax attention).
    - `local_linear`: m affine, same weights, ridge penalty Λ on the slope, solved exactly.
    - `local_linear_step`: m affine, one unit gradient step for the slope from zero, evaluated at k̄_t + displacement_t.
    - `ridge`: m linear, w_{t,i} = Γ_{t,i} β_i without kernel, penalty Σ_n Λ_n ‖m e_n‖², solved exactly.
    - `residual`: the `ridge` fit, plus a local constant fit (kernel weights) of its residuals v_i − m k_i.
    - `online_gradient`: m linear, `steps` gradient steps of size β_t on ½‖v_t − m k_t‖² per token, starting from
      γ_t m_{t−1} (delta rule).
    - `proximal`: m linear, m_t = argmin ½ β_t ‖v_t − m k_t‖² + ½ ‖m − γ_t m_{t−1}‖² (implicit step).

    Write these parts (x_BTD is the layer-normed input of the layer; values are never seen by them):

    - `queries(x_BTD) -> q_BHTN` and `keys(x_BTD) -> k_BHTN`: the points. Feature maps and normalisation go here.
    - `log_kernel(query_BHTN, key_BHTN) -> BHTT`: log K(q_t, k_i), element by element; for local estimators and
      `residual`. Kernel shape and bandwidth go here, several resolutions as a log-sum of kernels. Default q·k.
    - `log_decay(x_BTD) -> BHT or None`: log γ_t ≤ 0, forgetting of older points. Default none.
    - `importance(x_BTD) -> BHT or None`: β_t > 0, weight of a point or step size. Default one.
    - `penalty(x_BTD) -> Λ, broadcastable to BHTN, or None`: needed by `local_linear`, `ridge` and `residual`.
    - `displacement(x_BTD) -> BHTN or None`: needed by `local_linear_step`.
    - `declaration`, and `__init__`, `initialise` for parameters.

    Optional, for speed only: `solve(points, v_BHTP) -> y_BHTP` may replace the declared estimator's solver by a faster
    one. The certificate solves the declared regression itself and the outputs must agree.
    """

    __test__ = False  # not a test case, whatever pytest makes of the name
    framework: ClassVar[str] = "test_time_regression"
    fixed: ClassVar[tuple[str, ...]] = ("forward", "points", "split_heads")
    declaration: ClassVar[Declaration]

    def queries(self, x_BTD: Tensor) -> Tensor:
        """Return q_BHTN."""
        raise NotImplementedError

    def keys(self, x_BTD: Tensor) -> Tensor:
        """Return k_BHTN."""
        raise NotImplementedError

    def log_kernel(self, query_BHTN: Tensor, key_BHTN: Tensor) -> Tensor:
        """Return log K(q_t, k_i) as BHTT; the exponential kernel exp(q·k) unless overridden."""
        return query_BHTN @ key_BHTN.mT

    def log_decay(self, x_BTD: Tensor) -> Tensor | None:
        """Return log γ_BHT, or None for no forgetting."""
        return None

    def importance(self, x_BTD: Tensor) -> Tensor | None:
        """Return β_BHT, or None for one."""
        return None

    def penalty(self, x_BTD: Tensor) -> Tensor | None:
        """Return the ridge penalty Λ, broadcastable to BHTN, or None."""
        return None

    def displacement(self, x_BTD: Tensor) -> Tensor | None:
        """Return where `local_linear_step` is evaluated relative to the mean key, BHTN, or None."""
        return None

    def solve(self, points: Points, v_BHTP: Tensor) -> Tensor:
        """Return y_BHTP = m_t(q_t); override only with a faster solver of the same regression."""
        return SOLVERS[self.declaration.estimator](points, v_BHTP)

    # Fixed below this line: the framework itself.

    def points(self, x_BTD: Tensor) -> Points:
        """Collect the regression's points and weights."""
        query, key = self.queries(x_BTD), self.keys(x_BTD)
        local = self.declaration.estimator in LOCAL
        return Points(
            query_BHTN=query,
            key_BHTN=key,
            log_kernel_BHTT=self.log_kernel(query, key) if local else None,
            log_decay_BHT=self.log_decay(x_BTD),
            importance_BHT=self.importance(x_BTD),
            penalty=self.penalty(x_BTD),
            displacement_BHTN=self.displacement(x_BTD),
            steps=self.declaration.steps,
        )

    def forward(self, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
        """Return y_BHTP."""
        return self.solve(self.points(x_BTD), v_BHTP).to(v_BHTP.dtype)
