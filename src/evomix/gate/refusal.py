"""The record of one check: what was measured, the limit, and a sentence that tells a proposer what to do instead."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Refusal:
    """Why a candidate was refused before anything ran."""

    check: str
    value: str
    limit: Any
    hint: str
    layer: str = "syntax"

    def record(self) -> dict[str, Any]:
        """Return the JSON-able record of this failed check."""
        return outcome(self.check, self.layer, self.value, self.limit, False, self.hint)


def outcome(check: str, layer: str, value: Any, limit: Any, passed: bool, hint: str = "") -> dict[str, Any]:
    """Return the record of a check; a passed one carries no hint."""
    record = {"check": check, "layer": layer, "value": value, "limit": limit, "passed": passed}
    return {**record, "hint": "" if passed else hint}


def measured(check: str, value: float, limit: float, hint: str, layer: str = "integrity") -> dict[str, Any]:
    """Return the record of a measured check: passed when `value` ≤ `limit` (NaN never is); three digits are kept."""
    shown = float(f"{value:.3g}") if math.isfinite(value) else str(value)
    return outcome(check, layer, shown, limit, value <= limit, hint)
