"""How numbers are written for readers. A missing number reads `null`: not measured, or not defined."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

NULL = "null"
MINUS = "\N{MINUS SIGN}"


def _minus(text: str) -> str:
    return text.replace("-", MINUS)


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _p(value: float) -> str:
    return "< .0001" if value < 1e-4 else f"{value:.4f}".lstrip("0") if value < 1 else "1"


FORMATS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "count": _count,
    "loss": lambda value: f"{value:.4f}",
    "gain": lambda value: f"{value:+.4f}",
    "percent": lambda value: f"{value:+.2%}",
    "share": lambda value: f"{value:.0%}",
    "ratio": lambda value: f"{value:.3f}×",
    "slope": lambda value: f"{value:+.4f}",
    "effect": lambda value: f"{value:+.2f}",
    "p": _p,
    "number": lambda value: f"{value:.4g}",
    "duration": lambda value: f"{value:.0f} s" if value < 120 else f"{value / 3600:.2f} h",
    "flag": lambda value: "yes" if value else "no",
}
"""Format name: number → text. Losses and gains are nats per token."""


def is_null(value: Any) -> bool:
    """Return whether `value` stands for nothing measured."""
    return value is None or (isinstance(value, float) and not math.isfinite(value)) or str(value) in ("nan", "<NA>")


def show(value: Any, form: str = "text") -> str:
    """Return `value` in format `form`, or `null`."""
    if is_null(value):
        return NULL
    return str(value) if form == "text" else _minus(FORMATS[form](value))


def sentence(text: str) -> str:
    """Return `text` as a sentence: a capital first, a full stop last, the typographic minus before numbers."""
    text = re.sub(r"(?<![\w.])-(?=\d)", MINUS, text.strip())
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def interval(bounds: Any, form: str = "gain") -> str:
    """Return a confidence interval as `[low, high]`, or `null` when it could not be computed."""
    if bounds is None or any(is_null(bound) for bound in bounds):
        return NULL
    return f"[{show(bounds[0], form)}, {show(bounds[1], form)}]"
