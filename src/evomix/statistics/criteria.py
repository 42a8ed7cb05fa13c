"""The protocol's criteria of success, fixed beforehand: each with what was measured, its limit and its verdict."""

from __future__ import annotations

import math
from typing import Any

from evomix.settings import Validation

FLOP_LIMIT = 1.10
"""Strong success allows at most 10 % more forward FLOPs per token."""
EFFECT_LIMIT = 0.5
"""Strong success needs d_z above this."""


def criterion(name: str, says: str, measured: float | None, limit: float | None, met: bool | None) -> dict[str, Any]:
    """Return one criterion; `met` None means that it was not measured."""
    verdict = "not measured" if met is None else ("met" if met else "not met")
    return {"name": name, "says": says, "measured": measured, "limit": limit, "verdict": verdict}


def _above(value: float, limit: float) -> bool | None:
    return value > limit if math.isfinite(value) else None


def success_criteria(
    result: dict[str, Any], scaling: dict[str, Any] | None, settings: Validation
) -> list[dict[str, Any]]:
    """Judge the four criteria of success from a framework's analysis and its scaling law (None: not fitted)."""
    primary, difference, agreement = result["primary"], result["difference"], result["agreement"]
    holm_p = primary["holm_p"]
    significant = None if not math.isfinite(holm_p) else bool(holm_p < settings.alpha and primary["direction"] > 0)
    sizes = scaling["better_sizes"] if scaling else None
    limit = len(scaling["sizes"]) if scaling else None
    return [
        criterion(
            "significance",
            f"two-sided p < {settings.alpha:g} after Holm over the frameworks, in favour of evolved",
            holm_p,
            settings.alpha,
            significant,
        ),
        criterion(
            "relative_gain",
            f"final loss more than {settings.relative_gain:.2%} below the standard's",
            difference["relative"],
            settings.relative_gain,
            _above(difference["relative"], settings.relative_gain),
        ),
        criterion(
            "agreement",
            f"at least {settings.agreement:.0%} of seeds agree",
            agreement["share"],
            settings.agreement,
            agreement["share"] >= settings.agreement - 1e-12,
        ),
        criterion(
            "across_sizes",
            "a lower mean loss at every size of the scaling law",
            sizes,
            limit,
            None if scaling is None else sizes == limit,
        ),
    ]


def strong_criteria(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Judge the four criteria of strong success; interpretability is a person's judgement and stays open."""
    d_z, low = result["effect"]["d_z"], result["difference"]["ci"][0]
    ratio = result["costs"]["flops_ratio"]
    return [
        criterion("effect", f"d_z above {EFFECT_LIMIT}", d_z, EFFECT_LIMIT, _above(d_z, EFFECT_LIMIT)),
        criterion(
            "held_out",
            "the gain holds on the test shard, which nothing was chosen on: its interval lies above 0",
            low,
            0.0,
            _above(low, 0.0),
        ),
        criterion(
            "flops",
            "at most 10 % more forward FLOPs per token",
            ratio,
            FLOP_LIMIT,
            ratio <= FLOP_LIMIT if math.isfinite(ratio) else None,
        ),
        criterion("interpretable", "a person can say what the change does (see the code diff)", None, None, None),
    ]


def all_met(criteria: list[dict[str, Any]], leave_out: tuple[str, ...] = ()) -> bool:
    """Return whether every criterion (but those left out) is met."""
    return all(item["verdict"] == "met" for item in criteria if item["name"] not in leave_out)
