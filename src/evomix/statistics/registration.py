"""The pre-registration: which protocol text a result was made under, and where a config departs from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evomix.provenance import PROTOCOL, protocol_digest
from evomix.settings import TuningBudget, Validation

REGISTERED = "68579b2b71b36b00e6a3538d43ea8a466d975a2942d41e1f9d87ca8f611f0b30"
"""SHA-256 of the registered text. An amendment changes the text, its amendment log and this line together."""

REGISTERED_VALUES: dict[str, float] = {
    "seeds": 10,
    "alpha": 0.05,
    "relative_gain": 0.01,
    "agreement": 0.7,
    "equivalence": 0.05,
}
"""Values of the confirmatory analysis in PROTOCOL.md."""


def departures(validation: Validation) -> list[str]:
    """Name the settings in which a config's confirmatory analysis departs from the registered one."""
    used = {**validation.model_dump(), "seeds": len(validation.seeds)}
    changed = sorted({*validation.reference, *validation.candidate})
    pairs = [f"{name} compares {' against '.join(validation.pair(name)[::-1])}" for name in changed]
    return [
        f"{key} is {used[key]:g}, registered {value:g}"
        for key, value in REGISTERED_VALUES.items()
        if used[key] != value
    ] + [f"{text}, registered evolved against standard" for text in pairs]


def registration(validation: Validation, path: Path = PROTOCOL, budget: TuningBudget | None = None) -> dict[str, Any]:
    """Return the block that ties a result to the pre-registration; `budget` is what every tuning may spend."""
    digest = protocol_digest(path)
    changed = digest != REGISTERED
    pruned = ["tuning trials are pruned, registered not pruned"] if budget and budget.pruning != "none" else []
    said = ["the text of PROTOCOL.md is not the registered one"] if changed else []
    return {
        "digest": digest,
        "registered": REGISTERED,
        "changed": changed,
        "departures": said + departures(validation) + pruned,
    }
