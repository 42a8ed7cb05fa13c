"""The pre-registration: which protocol text a result was made under, and where a config departs from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evomix.artifacts import digest_text
from evomix.settings import Validation

PROTOCOL = Path(__file__).resolve().parents[3] / "PROTOCOL.md"
"""The pre-registration at the root of the repository; absent when the package is installed without it."""

REGISTERED = "f34bd0286bb44c073cb1c11a38dfaa6ef9315374c4f833748c39e84bc69d3aa8"
"""SHA-256 of the registered text. An amendment changes the text, its amendment log and this line together."""

REGISTERED_VALUES: dict[str, float] = {
    "seeds": 10,
    "alpha": 0.05,
    "relative_gain": 0.01,
    "agreement": 0.7,
    "equivalence": 0.05,
}
"""Values of the confirmatory analysis in PROTOCOL.md."""


def protocol_digest(path: Path = PROTOCOL) -> str | None:
    """Return the SHA-256 of the protocol's text with normalised line ends, or None when the file is absent."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return None
    return digest_text("\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n")


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


def registration(validation: Validation, path: Path = PROTOCOL) -> dict[str, Any]:
    """Return the block that ties a result to the pre-registration."""
    digest = protocol_digest(path)
    changed = digest != REGISTERED
    said = ["the text of PROTOCOL.md is not the registered one"] if changed else []
    return {
        "digest": digest,
        "registered": REGISTERED,
        "changed": changed,
        "departures": said + departures(validation),
    }
