"""The pre-registration: which protocol text a result was made under, and where a config departs from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evomix.provenance import PROTOCOL, protocol_digest
from evomix.settings import TuningBudget, Validation

REGISTERED = "a9a62eb0fdce9e1148f6f425aaa7b682ea96d569555f92cc26052f70b841be0d"
"""SHA-256 of the registered text. An amendment changes the text, its amendment log and this line together."""

REGISTERED_VALUES: dict[str, float] = {
    "seeds": 10,
    "alpha": 0.05,
    "relative_gain": 0.01,
    "agreement": 0.7,
    "equivalence": 0.05,
}
"""Values of the confirmatory analysis in PROTOCOL.md."""
REGISTERED_STEPS = 100_000
REGISTERED_BUDGET = {"trials": 50, "steps": 50_000}
"""The tuning of one variant."""


def departures(validation: Validation) -> list[str]:
    """Name the settings in which a config's confirmatory analysis departs from the registered one."""
    used = {**validation.model_dump(), "seeds": len(validation.seeds)}
    changed = sorted({*validation.reference, *validation.candidate})
    pairs = [f"{name} compares {' against '.join(validation.pair(name)[::-1])}" for name in changed]
    return [
        (f"{used[key]} seeds" if key == "seeds" else f"{key} is {used[key]:g}") + f", registered {value:g}"
        for key, value in REGISTERED_VALUES.items()
        if used[key] != value
    ] + [f"{text}, registered evolved against standard" for text in pairs]


def _length(steps: int | None, budget: TuningBudget | None) -> list[str]:
    """Name where trainings and tunings are shorter, longer, fewer or otherwise than registered."""
    found = []
    if steps is not None and steps != REGISTERED_STEPS:
        found.append(f"a training has {steps:,} steps, registered {REGISTERED_STEPS:,}")
    if budget is not None:
        used = {"trials": budget.trials, "steps": budget.steps}
        if used != REGISTERED_BUDGET:
            trials, length = REGISTERED_BUDGET.values()
            found.append(
                f"a tuning has {budget.trials} trials of {budget.steps:,} steps, registered {trials} of {length:,}"
            )
        if budget.pruning != "none":
            found.append("tuning trials are pruned, registered not pruned")
    return found


def registration(
    validation: Validation, path: Path = PROTOCOL, *, budget: TuningBudget | None = None, steps: int | None = None
) -> dict[str, Any]:
    """Return the block that ties a result to the pre-registration.

    `budget` is what every tuning may spend, `steps` the length of the longest training; None where there is none.
    """
    digest = protocol_digest(path)
    changed = digest != REGISTERED
    said = ["the text of PROTOCOL.md is not the registered one"] if changed else []
    return {
        "digest": digest,
        "registered": REGISTERED,
        "changed": changed,
        "departures": said + _length(steps, budget) + departures(validation),
    }
