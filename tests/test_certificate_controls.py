"""Negative controls of behaviour: leaks, length, batch, memory, randomness are each refused by their test."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evomix.mechanisms.certificate import certify
from evomix.mechanisms.coefficient_dynamics.contract import Dynamics
from evomix.mechanisms.test_time_regression.estimators import Points
from mechanisms_controls import (
    Coefficients,
    Controls,
    Delta,
    DynamicToeplitz,
    Matrix,
    Regression,
    Ssd,
    Toeplitz,
    applied,
    failed,
    registrar,
)

CONTROLS: Controls = {}
control = registrar(CONTROLS)


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


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_is_refused_by_its_test(name: str) -> None:
    mechanism_type, test = CONTROLS[name]
    assert test in failed(mechanism_type)


def test_a_finite_mask_is_refused_for_its_leak_only() -> None:
    certificate = certify(FiniteMask, width=16, heads=2, seed=1)
    at_start = {test["id"] for test in certificate["tests"] if test["condition"] == "init" and not test["passed"]}
    assert not at_start
    assert any("G2" in sentence and "tolerance 1e-09" in sentence for sentence in certificate["refusals"])


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


def test_every_test_of_behaviour_has_a_control() -> None:
    ids = {test for test in applied(Matrix) if test[0] in "GV" or test == "F0"}
    assert ids < {test for _, test in CONTROLS.values()}
