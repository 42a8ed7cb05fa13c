"""Who came from whom, by which edit, accepted or refused and why: a table, JSON with diffs, and a Mermaid graph.

The graph keeps what explains the result: the ancestry of the best candidates and one line per refused branch's count,
so that it stays readable at hundreds of candidates; everything is in lineage.json.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from evomix.artifacts import read_json, write_json, write_table, write_text
from evomix.evolution.records import Slot, read_slot
from evomix.provenance import provenance

DRAWN = 12
"""Best candidates whose ancestry the Mermaid graph draws."""


def summarise(tell: Path, evaluations: list[Path], output: Path, **labels: Any) -> None:
    """Write output/history.parquet and output/lineage.{json,mmd,md} from the last tell.json and all evaluations.

    `labels` are those of `provenance`.
    """
    state = read_json(tell, "tell")
    slots = sorted((read_slot(path) for path in evaluations), key=lambda item: (item.wave, item.slot))
    standard = slots[0].evaluation["standard"]
    slots = [item for item in slots if "id" in item.proposal]
    added = {outcome["id"]: outcome["added"] for outcome in state["outcomes"]}
    seeds = _seed_fitness(state, standard)
    _write_history(max(seeds.values()), slots, added, output / "history.parquet")
    nodes = _nodes(state, seeds, slots, added)
    record = {
        **{key: state[key] for key in ("framework", "arm", "best", "stopped", "evaluated", "spent")},
        "best_path": _path(nodes, state["best"]["id"]),
        "nodes": nodes,
        "provenance": provenance("evomix.evolution.lineage", **labels),
    }
    write_json(output / "lineage.json", "lineage", record)
    write_text(output / "lineage.mmd", _mermaid(nodes, record["best_path"]))
    write_text(output / "lineage.md", _readable(state, nodes))


def _seed_fitness(state: dict[str, Any], standard: dict[str, float]) -> dict[str, float]:
    """Return name → fitness of the seeds; the standard's is that on the search's own seeds, as the members' are."""
    first, *members = state["seeds"]
    return {first["name"]: standard["fitness"]} | {seed["name"]: seed["fitness"] for seed in members}


def _write_history(best: float, slots: list[Slot], added: dict[str, bool], path: Path) -> None:
    """Write one row per candidate, in the order of the search, with the best fitness so far (`best` at first)."""
    import pandas as pd

    rows = []
    for item in slots:
        proposal, evaluation = item.proposal, item.evaluation
        if evaluation["status"] == "accepted":
            best = max(best, evaluation["fitness"])
        rows.append(
            {key: proposal[key] for key in ("iteration", "wave", "slot", "id", "candidate", "island", "generation")}
            | {"parent": proposal["parent"]["id"], "patch": proposal["patch"], "changes": proposal["changes"]}
            | {key: evaluation[key] for key in ("status", "check", "reason")}
            | {key: _number(evaluation[key]) for key in ("slope", "gain", "fitness", "score", "cost")}
            | {"best_fitness": best, "added": added.get(proposal["id"], False), "attempts": len(proposal["attempts"])}
            | proposal["spent"]
        )
    columns = list(rows[0]) if rows else ["iteration"]
    write_table(path, pd.DataFrame(rows, columns=columns))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _nodes(
    state: dict[str, Any], seeds: dict[str, float], slots: list[Slot], added: dict[str, bool]
) -> list[dict[str, Any]]:
    """Return seeds and candidates with parents, outcome, and diffs to the parent and to the standard."""
    sources: dict[str, str] = {}
    nodes: list[dict[str, Any]] = []
    for seed in state["seeds"]:
        for name in seed["ids"]:
            sources[name] = seed["source"]
            nodes.append(
                {"id": name, "kind": "seed", "label": seed["name"], "parent": None, "others": [], "iteration": 0}
                | {"status": "accepted", "fitness": seeds[seed["name"]], "candidate": seed["candidate"], "added": True}
            )
    original = state["seeds"][0]["source"]
    for item in slots:
        proposal, evaluation = item.proposal, item.evaluation
        name, parent = proposal["id"], proposal["parent"]["id"]
        sources[name] = item.source
        nodes.append(
            {"id": name, "kind": "candidate", "label": str(proposal["iteration"]), "parent": parent}
            | {
                "others": [proposal["partner"]] if proposal["partner"] else [],
                "status": evaluation["status"],
                "added": added.get(name, False),
            }
            | {key: proposal[key] for key in ("iteration", "wave", "slot", "candidate", "island", "patch", "changes")}
            | {key: evaluation[key] for key in ("check", "reason", "fitness", "gain", "slope")}
            | {"diff_to_parent": _diff(sources.get(parent, original), item.source, "parent")}
            | {"diff_to_standard": _diff(original, item.source, "standard")}
        )
    return nodes


def _readable(state: dict[str, Any], nodes: list[dict[str, Any]]) -> str:
    """Return every candidate as a section for people: origin, change, outcome, both diffs. Its text stays inert."""
    labels = {node["id"]: node["label"] if node["kind"] == "seed" else f"no. {node['label']}" for node in nodes}
    lines = [f"# Candidates of {state['framework']}, arm {state['arm']}", ""]
    for node in nodes:
        if node["kind"] == "seed":
            continue
        outcome = node["status"] if node["fitness"] is None else f"{node['status']}, fitness {node['fitness']:.5f}"
        why = f", by check {node['check']}: {node['reason']}" if node["reason"] else ""
        lines += [f"## No. {node['label']}: {outcome}", ""]
        change = _quoted(f"{node['changes'] or 'not described'}{why}")
        lines += [f"From {labels.get(node['parent'], 'a seed')} by `{node['patch']}`: {change}", ""]
        for name in ("parent", "standard"):
            lines += [f"Against its {name}:" if name == "parent" else "Against the standard:", ""]
            lines += [f"    {line}" for line in node[f"diff_to_{name}"].splitlines()] + [""]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """Return a text on one line without what Markdown or HTML would act on."""
    return " ".join("".join(mark if mark not in "<>&[]`*_|" else " " for mark in text).split(" "))


def _diff(old: str, new: str, name: str) -> str:
    return "\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), name, "candidate", lineterm="", n=2))


def _path(nodes: list[dict[str, Any]], name: str) -> list[str]:
    """Return the ids from a seed to a candidate (migrants' copies are not nodes, so their originals stand for them)."""
    parents = {node["id"]: node["parent"] for node in nodes}
    path = []
    current: str | None = name
    while current is not None and current not in path:
        path.append(current)
        current = parents.get(current)
    return path[::-1]


def _mermaid(nodes: list[dict[str, Any]], best_path: list[str]) -> str:
    """Return the graph of the best candidates' ancestry, left to right; each node counts the children it leaves out."""
    by_id = {node["id"]: node for node in nodes}
    ranked = [node for node in nodes if node["status"] == "accepted" and node["kind"] == "candidate"]
    ranked.sort(key=lambda node: (-node["fitness"], node["iteration"]))
    drawn = {name for node in ranked[:DRAWN] for name in _path(nodes, node["id"])} | set(best_path)
    drawn |= {node["id"] for node in nodes if node["kind"] == "seed" and not ranked}
    order = [node for node in nodes if node["id"] in drawn]
    short = {node["id"]: f"n{number}" for number, node in enumerate(order)}
    lines = ["flowchart LR"]
    for node in order:
        left_out = sum(1 for other in nodes if other["parent"] == node["id"] and other["id"] not in drawn)
        label = node["label"] if node["kind"] == "seed" else f"#{node['label']} {_plain(node['changes'])}"
        label += "" if node["fitness"] is None else f"<br>fitness {node['fitness']:.5f}"
        label += f"<br>+ {left_out} more" if left_out else ""
        lines.append(f'  {short[node["id"]]}["{label}"]')
    for node in order:
        if node["parent"] in short:
            lines.append(f"  {short[node['parent']]} --> {short[node['id']]}")
        for other in node["others"]:
            if other in short and other in by_id:
                lines.append(f"  {short[other]} -.-> {short[node['id']]}")
    marked = ",".join(short[name] for name in best_path if name in short)
    lines += ["  classDef best stroke-width:3px", f"  class {marked} best"] if marked else []
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Return a short label without characters that Mermaid reads as syntax."""
    cleaned = "".join(mark if mark.isalnum() or mark in " .,+-:" else " " for mark in text)
    words = " ".join(cleaned.split())
    return words if len(words) <= 60 else words[:57] + "…"
