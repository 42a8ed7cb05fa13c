"""Tables of the probes: every task with both variants against chance, and the loss on longer contexts."""

from __future__ import annotations

from statistics import median
from typing import Any

from evomix.figures.tree import Results
from evomix.report.table import Columns, Table, make


def _steps(variant: dict[str, Any]) -> float | None:
    """Return the median of the steps to 90 %, or None unless every seed came there."""
    values = list(variant["steps_to_90"].values())
    return None if None in values else median(values)


def probes(results: Results) -> Table:
    """Return one row per framework and task."""
    records: list[dict[str, Any]] = []
    for framework in results.frameworks():
        found = results.json(f"probes/{framework}.json") or {"order": []}
        for task in (found["tasks"][name] for name in found["order"]):
            reference, candidate = (task["variants"][variant] for variant in found["pair"])
            difference = task["difference"]
            records.append(
                {
                    "framework": framework,
                    "task": task["title"],
                    "chance": task["chance"],
                    "reference": reference["mean"],
                    "candidate": candidate["mean"],
                    "reference_steps": _steps(reference),
                    "candidate_steps": _steps(candidate),
                    "difference": difference["mean"],
                    "low": difference["low"],
                    "high": difference["high"],
                    "p": difference["p_holm"],
                    "seeds": difference["n"],
                    "said": "; ".join(dict.fromkeys([*reference["reasons"].values(), *candidate["reasons"].values()])),
                }
            )
    columns: Columns = {
        "framework": ("framework", "text"),
        "task": ("task", "text"),
        "chance": ("chance", "number"),
        "reference": ("accuracy to beat", "number"),
        "candidate": ("accuracy of the candidate", "number"),
        "difference": ("difference", "effect"),
        "low": ("95 % CI from", "effect"),
        "high": ("to", "effect"),
        "p": ("p (Holm over tasks)", "p"),
        "seeds": ("seeds", "count"),
        "reference_steps": ("steps to 90 %, to beat", "count"),
        "candidate_steps": ("steps to 90 %, candidate", "count"),
        "said": ("no accuracy because", "text"),
    }
    caption = (
        "Share of right answers on held-out sequences after the same short training; differences are paired by seed. "
        "Accuracies near chance say that nothing was learnt, not that the variants are alike. Exploratory: the verdict "
        "does not use them."
    )
    return make("probes", "Probes beyond the loss", caption, columns, records)


def length_generalisation(results: Results) -> Table:
    """Return one row per framework, variant and context length."""
    records: list[dict[str, Any]] = []
    for framework in results.frameworks():
        found = (results.json(f"probes/{framework}.json") or {}).get("length", {"variants": {}})
        for variant, record in found["variants"].items():
            for length, row in record["lengths"].items():
                records.append(
                    {
                        "framework": framework,
                        "variant": variant,
                        "length": int(length),
                        "trained": found["trained"],
                        "loss": row["mean"],
                        "low": row["low"],
                        "high": row["high"],
                        "last": row["stretches"][-1] if row["stretches"] else None,
                        "seeds": len(row["seeds"]),
                        "said": "; ".join(dict.fromkeys(record["reasons"].values())),
                    }
                )
    columns: Columns = {
        "framework": ("framework", "text"),
        "variant": ("variant", "text"),
        "length": ("tokens per row", "count"),
        "trained": ("trained at", "count"),
        "loss": ("test loss", "loss"),
        "low": ("95 % CI from", "loss"),
        "high": ("to", "loss"),
        "last": ("loss of the last stretch", "loss"),
        "seeds": ("seeds", "count"),
        "said": ("not read because", "text"),
    }
    caption = (
        "The same test tokens in longer and longer rows, nats per token: a loss that rises beyond the trained length "
        "means that the mechanism, or the positions, do not carry further."
    )
    return make("length_generalisation", "Longer contexts than trained", caption, columns, records)
