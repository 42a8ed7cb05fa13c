"""Propose a wave: a parent, a patch kind and a candidate for every slot, a pure function of population and seeds.

All open slots are answered together, then judged in slot order: what is malformed, a duplicate (by syntax tree, of any
earlier candidate or sibling) or refused by the syntax gate goes back with the reason, a bounded number of times.
Candidate code is never executed here. A slot without an acceptable candidate, or of a search that has stopped, still
gets its files, so that the workflow's jobs are known beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evomix.artifacts import write_json, write_text
from evomix.evolution.evaluate import NO_CANDIDATE
from evomix.evolution.identity import candidate_digest, identity, program_id
from evomix.evolution.openevolve_adapter.population import Individual, Population
from evomix.evolution.proposers.base import Draft, Proposer, Refusal, Task
from evomix.evolution.records import read_state
from evomix.gate import syntax
from evomix.settings import Arm, Proposing
from evomix.specs import SearchSpec
from evomix.streams import derive, numpy_stream

INSPIRATIONS = 3
"""Programs of the island shown beside the parent."""
REMEMBERED = 4
"""Earlier outcomes shown in a prompt."""

SHOWN_REFUSALS = 6
"""Refusals of one attempt that go back to the proposer."""


@dataclass
class _Open:
    """A slot on its way to a candidate."""

    task: Task
    island: int
    attempts: list[dict[str, Any]] = field(default_factory=list)
    accepted: Draft | None = None
    halt: str | None = None


def propose(
    proposing: Proposing,
    search: SearchSpec,
    arm: Arm,
    wave: int,
    population: Path,
    output: Path,
    *,
    proposer: Proposer | None = None,
) -> None:
    """Write output/slot_{s}/{proposal.json,candidate.py} for every slot of a wave from the population before it."""
    state = read_state(population)
    if state["stopped"]:
        for slot in range(proposing.wave_size):
            _write_stopped(search.framework, arm, wave, slot, state["stopped"], output)
        return
    chosen = proposer or _proposer(proposing, search, arm, output, state)
    programs = Population(proposing, population)
    slots = [_open(proposing, search, arm, wave, slot, programs, state, chosen) for slot in range(proposing.wave_size)]
    known = {outcome["identity"]: f"candidate {outcome['iteration']}" for outcome in state["outcomes"]}
    known |= {seed["identity"]: "a seed program" for seed in state["seeds"]}
    for _ in range(chosen.attempts):
        waiting = [item for item in slots if item.accepted is None and item.halt is None]
        if not waiting:
            break
        for item, draft in zip(waiting, chosen.answer([item.task for item in waiting]), strict=True):
            _judge(item, draft, known, search.framework)
    for item in slots:
        _write(item, search.framework, arm, proposing.wave_size, output)


def _proposer(proposing: Proposing, search: SearchSpec, arm: Arm, output: Path, state: dict[str, Any]) -> Proposer:
    """Return the arm's proposer: the grammar for `random`, the language model (or its recording) for the others."""
    if arm == "random":
        from evomix.evolution.proposers.grammar import Grammar

        return Grammar(search.framework)
    from evomix.evolution.proposers.conversation import ResponseStore
    from evomix.evolution.proposers.openai import OpenAI
    from evomix.evolution.proposers.recorded import Recorded

    llm = proposing.llm
    store = ResponseStore(Path(llm.responses) if llm.responses else output.parent / "responses")
    return (Recorded if llm.provider == "recorded" else OpenAI)(llm, search, store, state["spent"])


def _open(
    proposing: Proposing,
    search: SearchSpec,
    arm: Arm,
    wave: int,
    slot: int,
    programs: Population,
    state: dict[str, Any],
    proposer: Proposer,
) -> _Open:
    """Choose parent, inspirations and patch kind of a slot, each from its own stream."""
    seed = derive(proposing.seed, "propose", search.framework, arm, wave, slot)
    island = ((wave - 1) * proposing.wave_size + slot) % programs.islands
    if arm == "best_of_n":
        parent, inspirations, top = _seed_program(state), list[Individual](), list[Individual]()
        previous, broken = [], []
    else:
        parent, inspirations = programs.sample(island, derive(seed, "sample"), INSPIRATIONS)
        inspirations = [item for item in inspirations if item.candidate != parent.candidate]
        top, previous, broken = programs.top(2, island), state["outcomes"][-REMEMBERED:], state["broken"]
    possible = {
        kind: weight
        for kind, weight in proposer.patches.items()
        if not (kind == "crossover" and not inspirations) and not (kind == "fix" and not broken)
    }
    stream = numpy_stream(seed, "patch")
    kinds = list(possible)
    total = sum(possible.values())
    patch = kinds[int(stream.choice(len(kinds), p=[weight / total for weight in possible.values()]))]
    partner = inspirations[int(stream.integers(len(inspirations)))] if patch == "crossover" else None
    fault = None
    if patch == "fix":
        item = broken[int(stream.integers(len(broken)))]
        fault = item["reason"]
        parent = replace(
            parent, id=item["id"], original=item["id"], source=item["source"], candidate=item["candidate"], report=""
        )
    task = Task(wave, slot, 0, seed, patch, parent, inspirations, partner, top, previous, fault)
    return _Open(task, island)


def _seed_program(state: dict[str, Any]) -> Individual:
    """Return the standard as the search began with it, whether or not the population still holds it."""
    seed = state["seeds"][0]
    name = seed["ids"][0]
    return Individual(name, seed["source"], seed["candidate"], seed["score"], 0, "", seed["report"], 0, name)


def _judge(item: _Open, draft: Draft, known: dict[str, str], framework: str) -> None:
    """Accept a draft, or note why not and prepare the next attempt."""
    task = item.task
    reason = draft.reason
    if draft.halt:
        item.halt = draft.halt
    elif draft.source is not None:
        refusals = syntax.check(draft.source, framework)
        if refusals:
            reason = "\n".join(f"{item.check}: {item.value}. {item.hint}" for item in refusals[:SHOWN_REFUSALS])
        else:
            source = syntax.normalise(draft.source, framework)
            reason = _duplicate(identity(source), known, f"another proposal of this wave (slot {task.slot})")
            item.accepted = None if reason else replace(draft, source=source)
    item.attempts.append({"patch": task.patch, "changes": draft.changes, "refused": reason, "call": draft.call})
    number = task.attempt + 1
    item.task = replace(
        task,
        attempt=number,
        refusals=[*task.refusals, Refusal(draft.response, reason or "")],
    )


def _duplicate(digest: str, known: dict[str, str], name: str) -> str | None:
    """Return why a candidate is not new, or enter it among the known ones under `name`."""
    if digest in known:
        return f"this is the same program as {known[digest]}, comments and formatting aside; propose another one"
    known[digest] = name
    return None


def _write(item: _Open, framework: str, arm: str, wave_size: int, output: Path) -> None:
    task, draft = item.task, item.accepted
    if draft and draft.source is not None:
        status, reason, source = "proposed", None, draft.source
    else:
        status = "stopped" if item.halt else "refused"
        last = item.attempts[-1]["refused"] if item.attempts else None
        reason = item.halt or f"no acceptable proposal in {len(item.attempts)} attempts; the last one: {last}"
        source = f"{NO_CANDIDATE}{status}: {' '.join(reason.split())}\n"
    folder = output / f"slot_{task.slot}"
    calls = [attempt["call"] for attempt in item.attempts if attempt["call"]]
    parent: Individual = task.parent
    record = {
        "framework": framework,
        "arm": arm,
        "wave": task.wave,
        "slot": task.slot,
        "iteration": (task.wave - 1) * wave_size + task.slot + 1,
        "id": program_id(framework, arm, task.wave, task.slot),
        "status": status,
        "reason": reason,
        "candidate": candidate_digest(source, framework),
        "identity": identity(source),
        "island": item.island,
        "generation": parent.generation + 1,
        "parent": {"id": parent.original, "candidate": parent.candidate},
        "partner": task.partner.original if task.partner else None,
        "patch": task.patch,
        "changes": draft.changes if draft else "",
        "attempts": item.attempts,
        "spent": {
            "calls": len(calls),
            **{key: sum(call[key] for call in calls) for key in ("prompt_tokens", "completion_tokens", "dollars")},
        },
    }
    write_text(folder / "candidate.py", source)
    write_json(folder / "proposal.json", "proposal", record)


def _write_stopped(framework: str, arm: str, wave: int, slot: int, reason: str, output: Path) -> None:
    source = f"{NO_CANDIDATE}stopped: {reason}\n"
    folder = output / f"slot_{slot}"
    write_text(folder / "candidate.py", source)
    record = {"framework": framework, "arm": arm, "wave": wave, "slot": slot, "status": "stopped", "reason": reason}
    write_json(folder / "proposal.json", "proposal", {**record, "candidate": candidate_digest(source, framework)})
