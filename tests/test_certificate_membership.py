"""Negative controls of membership: a mechanism that is not what it declares is refused by the test for that choice."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from evomix.mechanisms.certificate import certify
from evomix.mechanisms.coefficient_dynamics import contract as coefficient_dynamics
from evomix.mechanisms.coefficient_dynamics.contract import Dynamics
from evomix.mechanisms.coefficient_dynamics.responses import Evolution
from evomix.mechanisms.matrix_mixer import contract as matrix_mixer
from evomix.mechanisms.operators import segment_sums
from evomix.mechanisms.test_time_regression import contract as test_time_regression
from evomix.mechanisms.test_time_regression.estimators import Points, local_constant, online_gradient
from mechanisms_controls import (
    HONEST,
    Coefficients,
    Controls,
    Delta,
    DynamicToeplitz,
    Matrix,
    Mesa,
    Regression,
    Retention,
    Ssd,
    applied,
    failed,
    registrar,
)

CONTROLS: Controls = {}
control = registrar(CONTROLS)


@control("F1")
class OtherMixing(Coefficients):
    """The fast form forgets, the declared dynamics do not."""

    def mix(self, dynamics: Dynamics, v_BHTP: Tensor) -> Tensor:
        decay = torch.exp(segment_sums(torch.full_like(v_BHTP[..., 0], -0.1)))
        return (self.coefficients(dynamics) * decay) @ v_BHTP


@control("F1")
class OtherProduct(Ssd):
    def multiply(self, generators: tuple[Tensor, ...], v_BHTP: Tensor) -> Tensor:
        return super().multiply(generators, v_BHTP) + v_BHTP


@control("F2")
class UndeclaredEvolution(Coefficients):
    def evolution(self, x_BTD: Tensor, key_BHTN: Tensor) -> Evolution:
        return Evolution(log_scalar_BHT=torch.full_like(key_BHTN[..., 0], -0.1))


@control("F2")
class LargerState(Retention):
    """Queries and keys are doubled in size behind a declared state of the head width."""

    def queries(self, x_BTD: Tensor) -> Tensor:
        query = super().queries(x_BTD)
        return torch.cat([query, query.square()], -1)

    def keys(self, x_BTD: Tensor) -> Tensor:
        key = super().keys(x_BTD)
        return torch.cat([key, key.square()], -1)


@control("F3")
class ReadoutOfNeighbours(Coefficients):
    """A readout that compares scores with each other (a sharpened softmax of ranks) is no φ."""

    def readout(self, score_BHTT: Tensor) -> Tensor:
        return super().readout(score_BHTT) + torch.softmax(score_BHTT, -1).cumsum(-1)


@control("C1")
class QuadraticReadout(Retention):
    """Declared linear, but scores are squared: the state would need N (N + 1) / 2 numbers."""

    def readout(self, score_BHTT: Tensor) -> Tensor:
        return score_BHTT.square()


@control("C2")
class SumOfExponentials(Coefficients):
    """Declared exponential, but a second temperature is added."""

    def readout(self, score_BHTT: Tensor) -> Tensor:
        return super().readout(score_BHTT) + super().readout(4.0 * score_BHTT)


@control("M2")
class WrongRank(Ssd):
    declaration = matrix_mixer.Declaration(structure="semiseparable", rank=3)


@control("M2")
class NotToeplitz(Ssd):
    declaration = matrix_mixer.Declaration(structure="toeplitz", sequence_aligned=False)


@control("M2")
class NotQuasiseparable(Matrix):
    declaration = matrix_mixer.Declaration(structure="quasiseparable", row_stochastic=True)


@control("M2")
class NotCauchy(Matrix):
    declaration = matrix_mixer.Declaration(structure="cauchy", row_stochastic=True)


@control("M2")
class NotHierarchical(Matrix):
    declaration = matrix_mixer.Declaration(structure="hierarchical", row_stochastic=True)


@control("M2")
class NotRowStochastic(Ssd):
    declaration = matrix_mixer.Declaration(structure="semiseparable", row_stochastic=True)


@control("M2")
class RowsDoNotSumToOne(Retention):
    declaration = coefficient_dynamics.Declaration(readout="linear", evolution="scalar", normaliser="row_sum")


@control("M3")
class SaysItIsFixed(Matrix):
    declaration = matrix_mixer.Declaration(structure="dense", data_dependent=False)


@control("L1")
class SaysItIsAligned(DynamicToeplitz):
    declaration = matrix_mixer.Declaration(structure="toeplitz")


@control("T0")
class GrowingMemory(Mesa):
    def log_decay(self, x_BTD: Tensor) -> Tensor:
        return -super().log_decay(x_BTD)


@control("T1")
class OtherObjective(Mesa):
    """Declares exact ridge regression and takes one gradient step."""

    def solve(self, points: Points, v_BHTP: Tensor) -> Tensor:
        return online_gradient(points, v_BHTP)


@control("T1")
class OtherNumberOfSteps(Delta):
    declaration = test_time_regression.Declaration(estimator="online_gradient", steps=3)

    def solve(self, points: Points, v_BHTP: Tensor) -> Tensor:
        return online_gradient(points._replace(steps=1), v_BHTP)


@control("T1")
class SaysItIsProximal(Delta):
    declaration = test_time_regression.Declaration(estimator="proximal")

    def solve(self, points: Points, v_BHTP: Tensor) -> Tensor:
        return online_gradient(points, v_BHTP)


@control("T2")
class KernelOfNeighbours(Regression):
    """The kernel's bandwidth follows the mean key of the past."""

    def log_kernel(self, query_BHTN: Tensor, key_BHTN: Tensor) -> Tensor:
        return super().log_kernel(query_BHTN, key_BHTN - key_BHTN[..., -1:, :])


@control("T3")
class ForgetsAlways(Regression):
    def solve(self, points: Points, v_BHTP: Tensor) -> Tensor:
        return 0.9 * local_constant(points, v_BHTP)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_is_refused_by_its_test(name: str) -> None:
    mechanism_type, test = CONTROLS[name]
    assert test in failed(mechanism_type)


def test_a_wrong_rank_is_said_with_value_and_tolerance() -> None:
    certificate = certify(WrongRank, width=16, heads=2, seed=1)
    message = "M2 (blocks of the matrix below a cut have the declared rank) failed at init: measured 8, tolerance 3"
    assert message in certificate["refusals"]


def test_larger_declared_states_are_accepted_when_true() -> None:
    class Doubled(LargerState):
        declaration = coefficient_dynamics.Declaration(
            readout="linear", evolution="scalar", normaliser="none", state=16
        )

    assert not failed(Doubled)


def test_several_gradient_steps_are_accepted_when_declared() -> None:
    class Thrice(Delta):
        declaration = test_time_regression.Declaration(estimator="online_gradient", steps=3)

    assert not failed(Thrice)


@pytest.mark.parametrize("estimator", ["local_linear", "local_linear_step", "residual", "ridge", "proximal"])
def test_every_estimator_can_be_declared_on_the_standard(estimator: str) -> None:
    """One changed word of the declaration changes the regression; its penalty and displacement are given."""

    class Other(Regression):
        declaration = test_time_regression.Declaration(estimator=estimator)

        def penalty(self, x_BTD: Tensor) -> Tensor:
            return torch.full((1,), 0.5, dtype=x_BTD.dtype)

        def displacement(self, x_BTD: Tensor) -> Tensor:
            return self.queries(x_BTD)

        def log_decay(self, x_BTD: Tensor) -> Tensor:
            return F.logsigmoid(self.keys(x_BTD).sum(-1) + 2)

        def importance(self, x_BTD: Tensor) -> Tensor:
            return F.softplus(self.queries(x_BTD).sum(-1)) + 0.01

    certificate = certify(Other, width=16, heads=2, seed=1)
    assert certificate["passed"], certificate["refusals"]


def test_every_test_of_membership_has_a_control() -> None:
    ids = {test for honest in HONEST for test in applied(honest) if test[0] not in "GV" and test != "F0"}
    assert ids == {test for _, test in CONTROLS.values()}
