"""The certificate: measured evidence that a mechanism is sound, causal and a member of the framework that it declares.

Every test runs at the start, with parameters moved a little and then × 10 and × 100, and on trained weights where
given: gates that start at zero hide leaks, and finite masks hold only while logits are small. All in float64; tests of
behaviour in training and evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from evomix.mechanisms import behaviour
from evomix.mechanisms.coefficient_dynamics import membership as coefficient_dynamics
from evomix.mechanisms.contract import INITIAL_STD, Mechanism, build_mechanism
from evomix.mechanisms.matrix_mixer import membership as matrix_mixer
from evomix.mechanisms.measurement import Measurement, Probe
from evomix.mechanisms.test_time_regression import membership as test_time_regression

SCALES = (1, 10, 100)
MEMBERSHIP: dict[str, Callable[[Any, Probe], list[Measurement]]] = {
    "coefficient_dynamics": coefficient_dynamics.measure,
    "test_time_regression": test_time_regression.measure,
    "matrix_mixer": matrix_mixer.measure,
}


def certify(
    mechanism_type: type[Mechanism], *, width: int, heads: int, seed: int, weights: Mapping[str, Tensor] | None = None
) -> dict[str, Any]:
    """Run every test that applies and return the certificate as JSON-able values.

    `weights` is the state dict of one layer's trained mechanism of that width and number of heads. The result holds
    `framework`, `declaration`, `tests` (id, meaning, condition, value, tolerance, passed; value null when not finite),
    `passed`, and `refusals`: one sentence per failed test.
    """
    probe = Probe(seed, width, heads)
    tests: list[dict[str, Any]] = []
    tests.append(_fixed_parts(mechanism_type).record("class"))
    with torch.no_grad():
        for name, mechanism in _conditions(mechanism_type, probe, weights):
            for training in (False, True):
                mechanism.train(training)
                condition = f"{name}, {'training' if training else 'evaluation'}"
                tests += [item.record(condition) for item in _attempt(behaviour.measure, mechanism, probe, name)]
            mechanism.eval()
            tests += [item.record(name) for item in _attempt(_membership, mechanism, probe, name)]
    refusals = [_sentence(test) for test in tests if not test["passed"]]
    return {
        "framework": mechanism_type.framework,
        "declaration": mechanism_type.declaration.describe(),
        "width": width,
        "heads": heads,
        "tests": tests,
        "passed": not refusals,
        "refusals": refusals,
    }


def _conditions(
    mechanism_type: type[Mechanism], probe: Probe, weights: Mapping[str, Tensor] | None
) -> Iterator[tuple[str, Mechanism]]:
    for scale in SCALES:
        mechanism = build_mechanism(mechanism_type, probe.width, probe.heads, probe.seed, "certificate").double()
        for name, parameter in mechanism.named_parameters():
            if scale > 1:
                parameter.add_(INITIAL_STD * probe.normal(*parameter.shape, name=name)).mul_(scale)
        yield "init" if scale == 1 else f"parameters × {scale}", mechanism
    if weights is not None:
        mechanism = build_mechanism(mechanism_type, probe.width, probe.heads, probe.seed, "certificate")
        mechanism.load_state_dict(dict(weights))
        yield "trained", mechanism.double()


def _membership(mechanism: Mechanism, probe: Probe, name: str) -> list[Measurement]:
    return MEMBERSHIP[mechanism.framework](mechanism, probe)


def _attempt(
    test: Callable[..., list[Measurement]], mechanism: Mechanism, probe: Probe, name: str
) -> list[Measurement]:
    """Run a group of tests; an exception is a failed test of its own, with the error as its meaning."""
    try:
        if test is behaviour.measure:
            return behaviour.measure(mechanism, probe, sound=name in ("init", "trained"))
        return test(mechanism, probe, name)
    except Exception as error:  # any fault of the mechanism's code must become a refusal, not a crash of the gate
        return [Measurement("G0", f"runs without error ({type(error).__name__}: {error})", 1.0, 0.0)]


def _fixed_parts(mechanism_type: type[Mechanism]) -> Measurement:
    """Count the framework's own methods that the mechanism overrides."""
    contract: Any = next(base for base in mechanism_type.__mro__ if base.__module__.endswith(".contract"))
    overridden = [name for name in contract.fixed if getattr(mechanism_type, name) is not getattr(contract, name)]
    meaning = "the framework's fixed parts are not overridden" + (f" ({', '.join(overridden)})" if overridden else "")
    return Measurement("F0", meaning, float(len(overridden)), 0.0)


def _sentence(test: dict[str, Any]) -> str:
    value = "not finite" if test["value"] is None else f"{test['value']:.3g}"
    return (
        f"{test['id']} ({test['meaning']}) failed at {test['condition']}: "
        f"measured {value}, tolerance {test['tolerance']:.3g}"
    )
