"""One refusal: which check, what was found, the limit, and a sentence that tells a proposer what to do instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Refusal:
    """Why a candidate was refused."""

    check: str
    value: str
    limit: Any
    hint: str
    layer: str = "syntax"

    def record(self) -> dict[str, Any]:
        """Return the JSON-able record of this failed check."""
        return {
            "check": self.check,
            "layer": self.layer,
            "value": self.value,
            "limit": self.limit,
            "passed": False,
            "hint": self.hint,
        }
