"""Negative controls: every test of the certificate is failed by a mechanism that deserves it, and by the right test.

Each control changes one thing in an honest member. The last test demands that no test of a certificate lacks a control.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evomix.mechanisms import library
from evomix.mechanisms.certificate import certify
from evomix.mechanisms.coefficient_dynamics import contract as coefficient_dynamics
from evomix.mechanisms.coefficient_dynamics.contract import Dynamics
from evomix.mechanisms.coefficient_dynamics.responses import Evolution
from evomix.mechanisms.matrix_mixer import contract as matrix_mixer
from evomix.mechanisms.operators import segment_sums
from evomix.mechanisms.test_time_regression import contract as test_time_regression
from evomix.mechanisms.test_time_regression.estimators import Points, local_constant, online_gradient


def member(framework: str, name: str = "softmax") -> Any:
    return library.load(library.gallery(framework)[name], framework)


Coefficients: Any = member("coefficient_dynamics")
Retention: Any = member("coefficient_dynamics", "retnet")
Forgetting: Any = member("coefficient_dynamics", "forgetting")
Regression: Any = member("test_time_regression")
Delta: Any = member("test_time_regression", "delta")
Mesa: Any = member("test_time_regression", "mesa")
Matrix: Any = member("matrix_mixer")
Toeplitz: Any = member("matrix_mixer", "toeplitz")
DynamicToeplitz: Any = member("matrix_mixer", "dynamic_toeplitz")
Ssd: Any = member("matrix_mixer", "ssd")
CONTROLS: dict[str, tuple[type, str]] = {}


def control(test: str) -> Callable[[type], type]:
    """Register a mechanism that the named test of the certificate must refuse."""

    def register(mechanism_type: type) -> type:
        CONTROLS[mechanism_type.__name__] = (mechanism_type, test)
        return mechanism_type

    return register


@control("G0")
class Raises(Coefficients):
    def queries(self, x_BTD: Tensor) -> Tensor:
        raise IndexError("no such head")


@control("G1")
class NotFiniteAtZero(Coefficients):
    def queries(self, x_BTD: Tensor) -> Tensor:
        query = super().queries(x_BTD)
        return query / query.norm(dim=-1, keepdim=True)


@control("G2")
class MissingMask(Coefficients):
    def mix(self, dynamics: Dynamics, v_BHTP: Tensor) -> Tensor:
        return torch.softmax(dynamics.query_BHTN @ dynamics.impulse_BHTN.mT, -1) @ v_BHTP


@control("V4")
class MissingMaskMaterialised(MissingMask):
    pass


@control("G2")
class CircularConvolution(Toeplitz):
    def multiply(self, generators: tuple[Tensor, ...], v_BHTP: Tensor) -> Tensor:
        tokens = v_BHTP.shape[-2]
        spectrum = torch.fft.rfft(generators[0]).unsqueeze(-1) * torch.fft.rfft(v_BHTP, dim=-2)
        return torch.fft.irfft(spectrum, tokens, dim=-2)


@control("G2")
class ChunkMeans(Regression):
    """Keys see the mean of their own chunk of sixteen tokens."""

    def keys(self, x_BTD: Tensor) -> Tensor:
        tokens = x_BTD.shape[-2]
        padded = F.pad(x_BTD, (0, 0, 0, -tokens % 16))
        means = padded.unflatten(-2, (-1, 16)).mean(-2).repeat_interleave(16, -2)[..., :tokens, :]
        return super().keys(x_BTD + 0.1 * means)


@control("G2")
class FiniteMask(Regression):
    """Adds −1e4 to future scores: correct until a score exceeds that."""

    def solve(self, points: Points, v_BHTP: Tensor) -> Tensor:
        score = points.log_kernel_BHTT
        return torch.softmax(score + torch.full_like(score[..., :, :], -1e4).triu(1), -1) @ v_BHTP


@control("G2")
class ShiftedFilter(DynamicToeplitz):
    """The published off-by-one: lag l is read from token l + 1."""

    def generators(self, x_BTD: Tensor) -> tuple[Tensor, ...]:
        return super().generators(x_BTD.roll(-1, -2))


@control("G2")
class SequenceMeanRouting(Matrix):
    """The sign of the whole sequence's mean chooses between two temperatures."""

    def generators(self, x_BTD: Tensor) -> tuple[Tensor, ...]:
        query, key = super().generators(x_BTD)
        route = (x_BTD.mean((-2, -1), keepdim=True) > 0).to(x_BTD.dtype).unsqueeze(-3)
        return query * (1 + route), key


@control("G3")
class TotalLength(Matrix):
    def generators(self, x_BTD: Tensor) -> tuple[Tensor, ...]:
        query, key = super().generators(x_BTD)
        return query * math.log(1 + x_BTD.shape[-2]), key


@control("G6")
class BatchStatistics(Coefficients):
    def keys(self, x_BTD: Tensor) -> Tensor:
        return super().keys(x_BTD - x_BTD.mean(0, keepdim=True) if x_BTD.ndim == 3 else x_BTD)


@control("G7")
class CallCounter(Coefficients):
    """After forty calls, the temperature changes."""

    def queries(self, x_BTD: Tensor) -> Tensor:
        self.calls = getattr(self, "calls", 0) + 1
        return super().queries(x_BTD) * (2 if self.calls % 100 > 40 else 1)


@control("G7")
class RunningState(Coefficients):
    """A buffer moves at every call, without effect on the output."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.register_buffer("seen", torch.zeros(()))

    def queries(self, x_BTD: Tensor) -> Tensor:
        self.seen += 1
        return super().queries(x_BTD)


@control("G8")
class DropoutSwitch(Matrix):
    """In training mode the mask is dropped."""

    def multiply(self, generators: tuple[Tensor, ...], v_BHTP: Tensor) -> Tensor:
        if self.training:
            return torch.softmax(generators[0] @ generators[1].mT, -1) @ v_BHTP
        return super().multiply(generators, v_BHTP)


@control("G9")
class GlobalRandomness(Coefficients):
    def queries(self, x_BTD: Tensor) -> Tensor:
        return super().queries(x_BTD) + 0.0 * torch.rand(())


@control("V1")
class ValueDependentCoefficients(Coefficients):
    """Coefficients are scaled by the length of the values."""

    def mix(self, dynamics: Dynamics, v_BHTP: Tensor) -> Tensor:
        return super().mix(dynamics, v_BHTP * torch.tanh(v_BHTP.norm(dim=-1, keepdim=True)))


@control("V3")
class WeightsPerChannel(Ssd):
    """Channel p is mixed with a temperature of its own."""

    def multiply(self, generators: tuple[Tensor, ...], v_BHTP: Tensor) -> Tensor:
        channel = torch.arange(v_BHTP.shape[-1], dtype=v_BHTP.dtype)
        return super().multiply(generators, v_BHTP) * (1 + channel)


@control("F0")
class OverridesForward(Matrix):
    def forward(self, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
        return super().forward(x_BTD, v_BHTP)


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


def failed(mechanism_type: type) -> set[str]:
    certificate = certify(mechanism_type, width=16, heads=2, seed=1)  # type: ignore[arg-type]
    assert certificate["passed"] == (not certificate["refusals"])
    return {test["id"] for test in certificate["tests"] if not test["passed"]}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_is_refused_by_its_test(name: str) -> None:
    mechanism_type, test = CONTROLS[name]
    assert test in failed(mechanism_type)


def test_a_finite_mask_is_refused_for_its_leak_only() -> None:
    certificate = certify(FiniteMask, width=16, heads=2, seed=1)
    at_start = {test["id"] for test in certificate["tests"] if test["condition"] == "init" and not test["passed"]}
    assert not at_start
    assert any("G2" in sentence and "tolerance 1e-09" in sentence for sentence in certificate["refusals"])


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


def test_an_unstable_recurrence_is_no_leak() -> None:
    """Steps far too long for its keys make the delta rule overflow on large noise; its mask must not be blamed."""

    class Unstable(Delta):
        def keys(self, x_BTD: Tensor) -> Tensor:
            return 40.0 * self.split_heads(self.key(x_BTD))

    assert not failed(Unstable) & {"G2", "G3", "G6"}


def test_hidden_gates_are_opened() -> None:
    """A leak behind a gate that starts at zero shows once parameters are moved."""

    class Gated(Matrix):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__(width, heads)
            self.gate = nn.Parameter(torch.zeros(()))

        def generators(self, x_BTD: Tensor) -> tuple[Tensor, ...]:
            query, key = super().generators(x_BTD)
            return query + self.gate * query.mean(-2, keepdim=True), key

    certificate = certify(Gated, width=16, heads=2, seed=1)
    leaks = {test["condition"] for test in certificate["tests"] if test["id"] == "G2" and not test["passed"]}
    assert "init, evaluation" not in leaks
    assert "parameters × 10, evaluation" in leaks


def test_every_test_of_the_certificate_has_a_control() -> None:
    ids = set()
    for honest in (Coefficients, Retention, Regression, Delta, Mesa, Matrix, Toeplitz, DynamicToeplitz, Ssd):
        ids |= {test["id"] for test in certify(honest, width=16, heads=2, seed=1)["tests"]}
    assert ids < {test for _, test in CONTROLS.values()}
