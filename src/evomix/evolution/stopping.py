"""Stop rules of a search (protocol): no improvement for long, too many invalid in a row, mostly NaN, money spent."""

from __future__ import annotations

from typing import Any

from evomix.settings import Proposing


def new_state() -> dict[str, Any]:
    """Return the counters of a search before its first candidate."""
    return {"evaluated": 0, "since_improvement": 0, "invalid_in_a_row": 0, "diverged": 0, "stopped": None}


def count(state: dict[str, Any], *, status: str, valid: bool, improved: bool) -> dict[str, Any]:
    """Return the counters after one more candidate (a stopped slot counts for nothing)."""
    if status == "stopped":
        return dict(state)
    return {
        **state,
        "evaluated": state["evaluated"] + 1,
        "since_improvement": 0 if improved else state["since_improvement"] + 1,
        "invalid_in_a_row": 0 if valid else state["invalid_in_a_row"] + 1,
        "diverged": state["diverged"] + (status == "diverged"),
    }


def reason_to_stop(state: dict[str, Any], proposing: Proposing, halted: str | None) -> str | None:
    """Return why the search stops after this wave, or None; `halted` is the reason of a proposer that gave up."""
    if state["stopped"] or halted:
        return str(state["stopped"] or halted)
    if state["invalid_in_a_row"] > proposing.max_invalid:
        return f"{state['invalid_in_a_row']} invalid candidates in a row (limit {proposing.max_invalid})"
    if state["evaluated"] > proposing.max_invalid and 2 * state["diverged"] > state["evaluated"]:
        return f"{state['diverged']} of {state['evaluated']} candidates diverged"
    if state["since_improvement"] >= proposing.patience:
        return f"no improvement for {state['since_improvement']} candidates (patience {proposing.patience})"
    return None
