"""One word and one sentence for a framework's comparison, by rules fixed in PROTOCOL.md."""

from __future__ import annotations

from typing import Any

from evomix.statistics import tuning_noise


def word(result: dict[str, Any], alpha: float) -> str:
    """Return "better", "worse", "equivalent" or "inconclusive".

    Better and worse need Holm's p below alpha; better also that evolved diverged no more often than the standard.
    Equivalent needs the two one-sided tests (Holm over the frameworks) and no run diverged in one arm only.
    """
    primary, diverged = result["primary"], result["diverged"]
    if primary["holm_p"] is not None and primary["holm_p"] < alpha:
        if primary["direction"] < 0:
            return "worse"
        if len(diverged["evolved"]) <= len(diverged["standard"]):
            return "better"
        return "inconclusive"
    holm_p = result["equivalence"]["holm_p"]
    if holm_p is not None and holm_p < alpha and diverged["evolved"] == diverged["standard"]:
        return "equivalent"
    return "inconclusive"


def _number(value: float | None, digits: int = 4) -> str:
    return "n/a" if value is None or value != value else f"{value:+.{digits}f}"


def _p(value: float | None) -> str:
    if value is None or value != value:
        return "p n/a"
    return f"p = {value:.3f}" if value >= 0.001 else f"p = {value:.1e}"


def sentence(result: dict[str, Any]) -> str:
    """Return the verdict with its numbers as one sentence; differences are standard − evolved in nats per token."""
    difference, agreement, diverged = result["difference"], result["agreement"], result["diverged"]
    low, high = difference["ci"]
    named = result.get("variants", {})
    standard, evolved = named.get("standard", "standard"), named.get("evolved", "evolved")
    claim = {
        "better": f"{evolved} is better than {standard}",
        "worse": f"{evolved} is worse than {standard}",
        "equivalent": f"{evolved} and {standard} are equivalent within ±{_number(result['equivalence']['margin'])[1:]}",
        "inconclusive": "inconclusive: neither a difference nor equivalence is shown",
    }[result["verdict"]["word"]]
    if "withheld" in result["verdict"]:
        trials = tuning_noise.fewest(result["tuning"])
        claim = (
            f"inconclusive: {trials} tuning trials are too few to claim anything ({tuning_noise.CLAIM_TRIALS} needed)"
        )
    relative = difference["relative"]
    share = f" ({relative:+.2%})" if relative is not None and relative == relative else ""
    numbers = (
        f"gain {_number(difference['mean'])} nats/token{share}, {difference['level']:.0%} CI "
        f"[{_number(low)}, {_number(high)}], Holm {_p(result['primary']['holm_p'])}, "
        f"{agreement['agree']} of {agreement['seeds']} seeds agree"
    )
    lost = len(diverged["evolved"]) + len(diverged["standard"])
    return f"{claim} — {numbers}" + (f"; {lost} runs diverged" if lost else "")


def verdict_line(framework_json: dict[str, Any]) -> str:
    """Return one line for the terminal from a validation/{framework}.json."""
    return f"{framework_json['framework']}: {framework_json['verdict']['sentence']}"
