"""What the report says about single edits: one table, and every edit with its code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evomix.figures.tree import Results
from evomix.report.diff import Line, from_unified
from evomix.report.formats import interval, is_null, show
from evomix.report.table import Columns, Table, make


@dataclass(frozen=True)
class Edit:
    """One edit: its number, what it does, what it is worth in words, and its code."""

    index: int
    title: str
    worth: str
    lines: list[Line]


@dataclass(frozen=True)
class Ablated:
    """What the report says about the edits of one framework."""

    summary: str
    edits: list[Edit]


def ablated(results: Results, framework: str) -> Ablated | None:
    """Return the edits of a framework with their code; None where they have not been measured."""
    found = results.json(f"ablation/{framework}.json")
    if found is None:
        return None
    edits = [Edit(edit["index"], edit["title"], _worth(edit), from_unified(edit["diff"])) for edit in found["edits"]]
    return Ablated(found["summary"], edits)


def _worth(edit: dict[str, Any]) -> str:
    """Say what taking an edit back costs, and what it gains alone."""
    said = []
    for kind, what in (("reverted", "taken back"), ("added", "alone")):
        block = edit[kind]
        effect = block and block["effect"]
        if effect:
            zero = effect["mean"] == effect["low"] == effect["high"] == 0
            bounds = interval([effect["low"], effect["high"]])
            p = "" if is_null(effect["holm_p"]) else f", Holm p {show(effect['holm_p'], 'p')}"
            measured = f"{show(effect['mean'], 'gain')}, 95 % CI {bounds}{p}, n = {effect['n']}"
            said.append(f"{what}: exactly 0" if zero else f"{what}: {measured}")
        if block and block["reason"]:
            said.append(f"{what}: {block['reason']}")
    return "; ".join(said)


def ablation(results: Results) -> Table:
    """Return one row per framework and edit: what it is worth taken back alone, and added alone."""
    records: list[dict[str, Any]] = []
    for framework in results.frameworks():
        found = results.json(f"ablation/{framework}.json") or {"edits": []}
        for edit in found["edits"]:
            effect = edit["reverted"]["effect"] or {}
            added = (edit["added"] or {}).get("effect") or {}
            records.append(
                {
                    "framework": framework,
                    "edit": edit["index"],
                    "title": edit["title"],
                    "effect": effect.get("mean"),
                    "low": effect.get("low"),
                    "high": effect.get("high"),
                    "p": effect.get("holm_p"),
                    "n": effect.get("n"),
                    "added": added.get("mean"),
                    "added_low": added.get("low"),
                    "added_high": added.get("high"),
                    "status": " — ".join(filter(None, (edit["status"].replace("_", " "), edit["reason"]))),
                }
            )
    columns: Columns = {
        "framework": ("framework", "text"),
        "edit": ("no.", "count"),
        "title": ("edit", "text"),
        "effect": ("effect (nats/token)", "gain"),
        "low": ("95 % CI from", "gain"),
        "high": ("to", "gain"),
        "p": ("p (Holm over edits)", "p"),
        "n": ("seeds", "count"),
        "added": ("alone", "gain"),
        "added_low": ("95 % CI from", "gain"),
        "added_high": ("to", "gain"),
        "status": ("remark", "text"),
    }
    caption = (
        "Every edit is taken back alone and the rest trained anew on the same seeds; the effect is what that costs, so "
        "positive means that the edit helps. Alone: what the edit gains when it is all that is changed. Explanatory: "
        "the verdict does not rest on it. Where edits interact, effects do not add up."
    )
    return make("ablation", "Ablation: every edit alone", caption, columns, records)
