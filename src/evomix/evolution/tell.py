"""Tell: take a wave's evaluations into the population, in slot order, and decide whether the search goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evomix.artifacts import write_json
from evomix.evolution import stopping
from evomix.evolution.openevolve_adapter.population import Population
from evomix.evolution.records import Slot, read_slot, read_state
from evomix.settings import Arm, Proposing

BROKEN = 4
"""Refused or failed candidates kept for patch kind `fix`, the latest."""


def tell(
    proposing: Proposing, framework: str, arm: Arm, wave: int, population: Path, evaluations: list[Path], output: Path
) -> None:
    """Write the population folder `output` and tell.json beside it from the one before and the wave's evaluations.

    Only accepted candidates enter the population. proposal.json and candidate.py are read beside each evaluation.
    """
    state = read_state(population)
    programs = Population(proposing, population)
    slots = sorted((read_slot(path) for path in evaluations), key=lambda item: item.slot)
    outcomes, broken, best, spent = list(state["outcomes"]), list(state["broken"]), state["best"], dict(state["spent"])
    counters = {key: state[key] for key in stopping.new_state()}
    halted = None
    for item in slots:
        status = item.evaluation["status"]
        if status == "stopped":
            halted = halted or item.evaluation["reason"]
            spent = _add(spent, item.proposal.get("spent", {}))
            continue
        accepted = status == "accepted"
        added = accepted and _enter(programs, item)
        improved = accepted and item.evaluation["score"] > best["score"]
        if improved:
            best = {"id": item.proposal["id"], "seed": False, "wave": item.wave, "slot": item.slot}
            best |= {key: item.evaluation[key] for key in ("candidate", "fitness", "score")}
        counters = stopping.count(counters, status=status, valid=item.valid, improved=improved)
        outcomes.append(_outcome(item, added))
        if not item.valid and item.proposal["status"] == "proposed":
            fault = {"source": item.source, "reason": item.evaluation["reason"]}
            broken.append({key: item.proposal[key] for key in ("id", "candidate")} | fault)
        spent = _add(spent, item.proposal["spent"])
    iteration = wave * proposing.wave_size
    migrated = programs.end_wave(iteration) if outcomes != state["outcomes"] else []
    counters["stopped"] = stopping.reason_to_stop(counters, proposing, halted)
    programs.save(output, iteration)
    record = {
        **counters,
        "framework": framework,
        "arm": arm,
        "wave": wave,
        "best": best,
        "seeds": state["seeds"],
        "outcomes": outcomes,
        "broken": broken[-BROKEN:],
        "migrated": migrated,
        "spent": spent,
    }
    write_json(output.parent / "tell.json", "tell", record)


def _enter(programs: Population, item: Slot) -> bool:
    """Add an accepted candidate to its island; False when its cell holds a better one."""
    proposal, evaluation = item.proposal, item.evaluation
    return programs.add(
        item.source,
        name=proposal["id"],
        candidate=proposal["candidate"],
        island=proposal["island"],
        iteration=proposal["iteration"],
        score=evaluation["score"],
        cost=evaluation["cost"],
        report=report(evaluation),
        changes=proposal["changes"],
        parent=proposal["parent"]["id"],
        generation=proposal["generation"],
    )


def _outcome(item: Slot, added: bool) -> dict[str, Any]:
    """Return the line of a candidate in the search's memory."""
    proposal, evaluation = item.proposal, item.evaluation
    return {
        **{
            key: proposal[key]
            for key in ("iteration", "wave", "slot", "id", "candidate", "identity", "patch", "changes")
        },
        "parent": proposal["parent"]["id"],
        **{key: evaluation[key] for key in ("status", "check", "reason", "slope", "gain", "fitness", "score")},
        "added": added,
    }


def _add(spent: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return {key: value + more.get(key, 0) for key, value in spent.items()}


def report(evaluation: dict[str, Any]) -> str:
    """Return an evaluation in words for the prompt: losses by size, gain, slope, cost; or why there is no score."""
    lines = []
    for size, seeds in evaluation["losses"].items():
        if seeds:
            mean = sum(seeds.values()) / len(seeds)
            lines.append(f"held-out loss at size {size}: {mean:.4f} nats per token (smaller is better)")
    if evaluation["slope"] is not None:
        lines.append(f"slope of loss against ln N: {evaluation['slope']:.5f} (more negative is better)")
    if evaluation["gain"] is not None:
        lines.append(f"mean gain over the standard, same seeds: {evaluation['gain']:+.4f} nats (larger is better)")
    if evaluation["cost"] is not None:
        lines.append(f"training FLOPs relative to the standard: {evaluation['cost']:.3f}")
    if evaluation["status"] != "accepted":
        lines.append(f"{evaluation['status']} by check {evaluation['check']}: {evaluation['reason']}")
    return "\n".join(lines)
