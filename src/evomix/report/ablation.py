"""What the report says about single edits: one table, and every edit with its code."""

from __future__ import annotations

from typing import Any

from evomix.figures.tree import Results
from evomix.report.table import Columns, Table, make


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
