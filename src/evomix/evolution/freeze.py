"""From a finished search to one frozen mechanism: shortlist, fresh re-ranking, selection.

The best of many noisy scores is lucky (winner's curse). So the best few are measured again on fresh seeds and on a
shard the search never saw, and only that second measurement decides; search scores are recorded shrunken as well.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evomix.artifacts import read_json, read_text, write_json, write_text
from evomix.errors import UserError
from evomix.evolution import fitness
from evomix.evolution.evaluate import NO_CANDIDATE, Gate, Train, ascending, clean, evaluate
from evomix.evolution.records import read_slot
from evomix.provenance import provenance
from evomix.specs import SearchSpec

Audit = Callable[[Path], dict[str, Any]]
"""Measures a finished run again from its spec.json: {loss, reported, checks, passed, reason}."""


def shortlist(search: SearchSpec, finalists: int, tell: Path, evaluations: list[Path], output: Path) -> None:
    """Write finalists.json: the best `finalists` accepted candidates of all waves by fitness, seeds excluded.

    `tell` is the last wave's tell.json; `evaluations` are those of all slots. An empty list says why in `reason`.
    """
    state = read_json(tell, "tell")
    slots = [read_slot(path) for path in evaluations]
    accepted = {item.proposal["id"]: item for item in slots if item.evaluation["status"] == "accepted"}
    values = {name: item.evaluation["fitness"] for name, item in accepted.items()}
    noise = slots[0].evaluation["noise"]
    shrunken = fitness.shrunken(values, noise[search.fitness])
    order = sorted(accepted, key=lambda name: (-values[name], accepted[name].proposal["iteration"]))[:finalists]
    record: dict[str, Any] = {
        "framework": search.framework,
        "arm": state["arm"],
        "fitness": search.fitness,
        "evaluated": state["evaluated"],
        "accepted": len(accepted),
        "stopped": state["stopped"],
        "spent": state["spent"],
        "standard": slots[0].evaluation["standard"],
        "noise": noise,
        "reason": None if order else f"none of {state['evaluated']} candidates was accepted",
        "finalists": [
            {
                "rank": rank,
                "wave": accepted[name].wave,
                "slot": accepted[name].slot,
                "id": name,
                "candidate": accepted[name].proposal["candidate"],
                "search_fitness": values[name],
                "shrunken_fitness": shrunken[name],
                "search_gain": accepted[name].evaluation["gain"],
                "source": accepted[name].source,
            }
            for rank, name in enumerate(order, 1)
        ],
    }
    write_json(output, "finalists", record)


def rerank(
    search: SearchSpec,
    finalists: Path,
    rank: int,
    baseline: Path,
    folder: Path,
    *,
    train: Train,
    gate: Gate,
    audit: Audit | None = None,
) -> None:
    """Write folder/{candidate.py,gate.json,evaluation.json} of the finalist of a rank (from 1) on fresh seeds.

    `search` is the spec for finalists (fresh seeds, shard `selection`) and `baseline` the standard's evaluation under
    it. A rank that the shortlist does not fill gives a record of status `stopped` and no training. `audit` measures
    the largest size's first run again on real text and trained weights, which no gate before a training can see: a
    finalist whose loss does not stand is refused.
    """
    if search.measurement.shard != "selection":
        raise UserError(f"finalists are measured on the shard `selection`, not `{search.measurement.shard}`")
    content = read_json(finalists, "finalists")
    found = [item for item in content["finalists"] if item["rank"] == rank]
    reason = content["reason"] or f"the shortlist has {len(content['finalists'])} finalists"
    source = found[0]["source"] if found else f"{NO_CANDIDATE}stopped: {reason}\n"
    write_text(folder / "candidate.py", source)
    record = evaluate(search, folder / "candidate.py", baseline, folder, train=train, gate=gate)
    if audit is None or record["status"] != "accepted":
        return
    stood = audit(folder / "training" / ascending(search)[-1] / f"seed_{search.seeds[0]}" / "spec.json")
    record["audit"] = {key: stood[key] for key in ("loss", "reported", "checks", "passed")}
    if not stood["passed"]:
        reason = clean(stood["reason"], [folder])
        record |= {"status": "refused", "check": "rescore", "reason": reason, "fitness": None, "score": None}
    write_json(folder / "evaluation.json", "evaluation", record)


def freeze(
    search: SearchSpec,
    finalists: Path,
    evaluations: list[Path],
    standard: Path,
    selection: Path,
    evolved: Path,
    **labels: Any,
) -> None:
    """Write selection.json and the frozen mechanism `evolved`: the best finalist by its fresh measurement.

    `evaluations` are those of the finalists in rank order, `labels` those of `provenance`. Where nothing acceptable was
    found, the evolved variant is the standard's own file and `found` is false: the study then compares the standard
    with itself, and says so.
    """
    content = read_json(finalists, "finalists")
    again = {rank: read_json(path, "evaluation") for rank, path in enumerate(evaluations, 1)}
    ranked = [
        {key: item[key] for key in item if key != "source"}
        | {
            key: again[item["rank"]][key]
            for key in ("status", "reason", "fitness", "gain", "slope", "score", "standard")
        }
        for item in content["finalists"]
    ]
    accepted = sorted(
        (item for item in ranked if item["status"] == "accepted"), key=lambda item: (-item["fitness"], item["rank"])
    )
    chosen = accepted[0] if accepted else None
    if chosen:
        source = next(item["source"] for item in content["finalists"] if item["rank"] == chosen["rank"])
        reason = f"the best of {len(accepted)} finalists on fresh seeds and the selection shard"
    else:
        source = read_text(standard)
        reason = content["reason"] or "no finalist was accepted again on fresh seeds"
        reason += "; the evolved variant is the standard itself"
    write_text(evolved, source)
    record = {
        **{key: content[key] for key in ("framework", "arm", "evaluated", "accepted", "stopped", "spent", "noise")},
        "fitness": content["fitness"],
        "found": chosen is not None,
        "reason": reason,
        "chosen": chosen,
        "beats_standard": bool(chosen and chosen["fitness"] > chosen["standard"]["fitness"]),
        "finalists": ranked,
        "provenance": provenance("evomix.evolution.freeze", **labels),
    }
    write_json(selection, "selection", record)
