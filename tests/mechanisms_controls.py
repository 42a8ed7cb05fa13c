"""Honest members from which negative controls of the certificate are made, and how a control is registered.

A control changes one thing in an honest member and must be refused by the test it is registered for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evomix.mechanisms import library
from evomix.mechanisms.certificate import certify

Controls = dict[str, tuple[type, str]]
"""Name of a control: its class and the id of the test that must refuse it."""


def member(framework: str, name: str = "softmax") -> Any:
    return library.load(library.gallery(framework)[name], framework)


Coefficients: Any = member("coefficient_dynamics")
Retention: Any = member("coefficient_dynamics", "retnet")
Regression: Any = member("test_time_regression")
Delta: Any = member("test_time_regression", "delta")
Mesa: Any = member("test_time_regression", "mesa")
Matrix: Any = member("matrix_mixer")
Toeplitz: Any = member("matrix_mixer", "toeplitz")
DynamicToeplitz: Any = member("matrix_mixer", "dynamic_toeplitz")
Ssd: Any = member("matrix_mixer", "ssd")
HONEST = (Coefficients, Retention, Regression, Delta, Mesa, Matrix, Toeplitz, DynamicToeplitz, Ssd)


def registrar(controls: Controls) -> Callable[[str], Callable[[type], type]]:
    """Return a decorator that enters a mechanism into `controls` under the test that must refuse it."""

    def control(test: str) -> Callable[[type], type]:
        def register(mechanism_type: type) -> type:
            controls[mechanism_type.__name__] = (mechanism_type, test)
            return mechanism_type

        return register

    return control


def failed(mechanism_type: type) -> set[str]:
    """Return the ids of the tests that refuse a mechanism."""
    certificate = certify(mechanism_type, width=16, heads=2, seed=1)  # type: ignore[arg-type]
    assert certificate["passed"] == (not certificate["refusals"])
    return {test["id"] for test in certificate["tests"] if not test["passed"]}


def applied(mechanism_type: Any) -> set[str]:
    """Return the ids of the tests that a certificate of the mechanism holds."""
    return {test["id"] for test in certify(mechanism_type, width=16, heads=2, seed=1)["tests"]}
