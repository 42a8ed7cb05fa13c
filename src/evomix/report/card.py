"""The card of an evolved variant: what it is, whether it holds, what its edits are worth, where it fails, its cost.

Deterministic: measured times stand in the report's table of costs alone. Every text that a candidate or a language
model wrote is escaped where it is printed, in HTML and in Markdown.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomix.artifacts import write_text
from evomix.errors import UserError
from evomix.figures.naming import words
from evomix.figures.tree import Results
from evomix.report.ablation import Edit, ablated
from evomix.report.anatomy import EQUATIONS, changed_parts, choices_side_by_side, dissect
from evomix.report.costs import measured_costs
from evomix.report.diff import CONTEXT, evolvable, plain
from evomix.report.failures import failures
from evomix.report.formats import NULL, sentence, show
from evomix.report.render import markdown


@dataclass(frozen=True)
class Evidence:
    """The certificate: (weights, checks passed, of how many) of every state, and what the framework itself asks.

    `own` holds (what it says, limit, measured in each of the states).
    """

    states: list[tuple[str, int, int]]
    own: list[tuple[str, str, list[str]]]


@dataclass(frozen=True)
class Card:
    """Everything a card says; lists are empty where there is nothing to say, `missing` names what is not done."""

    framework: str
    variant: str
    standard: str
    word: str
    verdict: str
    tuning: str
    equation: str
    words: str
    choices: list[tuple[str, str, str]]
    parts: dict[str, list[str]]
    same: bool
    evidence: Evidence
    ablation: str
    edits: list[Edit]
    failures: list[str]
    costs: list[tuple[str, str]]
    missing: list[str]
    difference: str


def _value(value: Any) -> str:
    return show(value, "number" if isinstance(value, float) else "text")


def _evidence(results: Results, framework: str, variant: str) -> Evidence:
    names = {"fresh": f"{variant}.certificate.json", "trained": f"{variant}.trained.certificate.json"}
    found = {
        weights: (results.json(f"mechanisms/{framework}/{name}") or {}).get("checks", [])
        for weights, name in names.items()
    }
    states = {weights: {check["check"]: check for check in checks} for weights, checks in found.items() if checks}
    own = []
    for name, check in next(iter(states.values()), {}).items():
        # G and V are asked of every mechanism, the other letters belong to the framework.
        if check["layer"] == "certificate" and name.partition(".")[2][:1] not in ("G", "V"):
            values = [_value(checks[name]["value"]) if name in checks else NULL for checks in states.values()]
            own.append((str(check.get("meaning") or name), _value(check["limit"]), values))
    counts = [
        (weights, sum(bool(check["passed"]) for check in checks.values()), len(checks))
        for weights, checks in states.items()
    ]
    return Evidence(counts, own)


def _costs(results: Results, framework: str, variant: str) -> list[tuple[str, str]]:
    """Return what the variant counts against the one to beat, at the size of the comparison."""
    size = results.validation().get("size")
    rows = {row["variant"]: row for row in measured_costs(results, framework) if row["size"] == size}
    own, base = rows.get(variant), rows.get(results.pair(framework)["standard"])
    if not own or not base:
        return []
    ratio = own["parameters"] / base["parameters"]
    found = [
        ("forward FLOPs per token, stated", own["flops"], own["ratio"]),
        ("forward FLOPs per token, counted as it runs", own["counted"], own["counted_ratio"]),
        ("non-embedding parameters", own["parameters"], ratio),
    ]
    return [(what, f"{show(value, 'count')}, {show(times, 'ratio')}") for what, value, times in found if value]


def _tuning(found: Any) -> str:
    """Say by which policy and with what budget the variants of a validation were tuned."""
    policy, budget = found["provenance"]["tuning_policy"], found["provenance"]["tuning_budget"]
    if not budget:
        return ""
    return f"Tuning: policy {policy}, {budget['trials']:,} trials of {budget['steps']:,} steps each."


def make_card(results: Results, framework: str) -> Card | None:
    """Return the card of the variant that a framework judges, None before it is frozen."""
    pair = results.pair(framework)
    standard, evolved = (results.text(f"mechanisms/{framework}/{name}.py") for name in pair.values())
    if evolved is None:
        return None
    old, new = dissect(standard or ""), dissect(evolved)
    found = results.json(f"validation/{framework}.json")
    ablation = ablated(results, framework)
    said, missing = failures(results, framework)
    before, after = (plain(evolvable(text or "")).split("\n") for text in (standard, evolved))
    lines = difflib.unified_diff(before, after, pair["standard"], pair["evolved"], n=CONTEXT, lineterm="")
    return Card(
        framework=framework,
        variant=pair["evolved"],
        standard=pair["standard"],
        word=found["verdict"]["word"] if found else "no verdict yet",
        verdict=sentence(found["verdict"]["sentence"]) if found else "The paired validation has not ended.",
        tuning=_tuning(found) if found else "",
        equation=EQUATIONS.get(framework, ""),
        words=new.words,
        choices=choices_side_by_side(old, new),
        parts={kind: names for kind, names in changed_parts(old, new).items() if names},
        same=standard is not None and plain(standard) == plain(evolved),
        evidence=_evidence(results, framework, pair["evolved"]),
        ablation=sentence(ablation.summary) if ablation else "",
        edits=ablation.edits if ablation else [],
        failures=[sentence(item) for item in said],
        costs=_costs(results, framework, pair["evolved"]),
        missing=missing,
        difference="\n".join(lines),
    )


def write_card(results: Path, framework: str, output: Path) -> None:
    """Write the card of a framework's evolved variant as Markdown; UserError before there is such a variant."""
    card = make_card(Results(results), framework)
    if card is None:
        raise UserError(f"{results} has no evolved mechanism of {words(framework)} yet; its card needs one")
    write_text(output, markdown("card.md.j2", card=card))
