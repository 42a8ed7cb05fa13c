"""Evaluate one candidate: gate, then a full training per size and seed, then slope, gain and fitness.

Whatever the candidate does, the result is a record: refused by the gate, failed (it raised or hung), diverged, or
accepted with its fitness. Only mistakes that are not the candidate's (a missing corpus, say) raise. The standard itself
goes through the same function, without a baseline, under a spec with more seeds: its repeats estimate the noise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evomix.artifacts import digest_file, read_json, read_text, write_json
from evomix.errors import UserError
from evomix.evolution import fitness
from evomix.evolution.identity import candidate_digest
from evomix.specs import MechanismReference, RunSpec, SearchSpec, spec_digest

Train = Callable[[RunSpec, Path], dict[str, Any]]
"""Trains a spec into a folder and returns its summary; raises, or reports another status, when the candidate fails."""
Gate = Callable[[Path], dict[str, Any]]
"""Returns the gate's record of a candidate: `accepted` and `checks`."""

NO_CANDIDATE = "# no candidate: "
"""First line of a candidate.py that stands for no mechanism; the status and the reason follow."""


def evaluate(
    search: SearchSpec, candidate: Path, baseline: Path | None, folder: Path, *, train: Train, gate: Gate
) -> dict[str, Any]:
    """Write folder/gate.json and folder/evaluation.json for a mechanism file; return the evaluation.

    `baseline` is the standard's evaluation.json on the same shard, at least on the spec's seeds; None evaluates the
    standard itself, which must succeed (UserError otherwise). Trainings live in folder/training/<size>/seed_<seed>/.
    """
    source = read_text(candidate)
    record: dict[str, Any] = {
        "candidate": candidate_digest(source, search.framework),
        "framework": search.framework,
        "role": "standard" if baseline is None else "candidate",
        "shard": search.measurement.shard,
        "spec_digest": spec_digest(search),
        **dict.fromkeys(("check", "reason", "slope", "gain", "fitness", "score", "cost", "standard", "noise")),
        "losses": {},
        "parameters": {},
        "flops": {},
    }
    standard = _standard(search, baseline) if baseline else None
    if standard:
        record |= {key: standard[key] for key in ("standard", "noise")}
    record |= _judge(search, candidate, source, standard, folder, train, gate, record)
    if baseline is None and record["status"] != "accepted":
        raise UserError(f"the standard mechanism {candidate} cannot be evaluated: {record['reason']}")
    write_json(folder / "evaluation.json", "evaluation", record)
    return record


def _standard(search: SearchSpec, baseline: Path) -> dict[str, Any]:
    """Return the standard's losses on the spec's seeds, its fitness there, and the noise of one such fitness."""
    content = read_json(baseline, "evaluation")
    missing = [size for size in search.architectures if size not in content["losses"]]
    seeds = set().union(*(values for values in content["losses"].values()))
    missing += [f"seed {seed}" for seed in search.seeds if str(seed) not in seeds]
    if missing or content["shard"] != search.measurement.shard:
        lack = missing[0] if missing else f"shard {search.measurement.shard}"
        raise UserError(f"{baseline} does not cover {lack}; evaluate the standard again")
    losses = fitness.only_seeds({size: content["losses"][size] for size in search.architectures}, search.seeds)
    slope = fitness.ordinary_slope(losses, content["parameters"])
    noise = fitness.noise(content["losses"], content["parameters"], len(search.seeds))
    return {
        "losses": losses,
        "flops": content["flops"],
        "noise": noise,
        "standard": {"slope": slope, "fitness": fitness.fitness(search.fitness, slope, 0.0)},
    }


def _judge(
    search: SearchSpec,
    candidate: Path,
    source: str,
    standard: dict[str, Any] | None,
    folder: Path,
    train: Train,
    gate: Gate,
    record: dict[str, Any],
) -> dict[str, Any]:
    if source.startswith(NO_CANDIDATE):
        status, reason = source.splitlines()[0].removeprefix(NO_CANDIDATE).split(": ", 1)
        write_json(folder / "gate.json", "gate", {"accepted": False, "checks": [], "reason": reason})
        return {"status": status, "check": "proposal", "reason": reason}
    report = {key: value for key, value in gate(candidate).items() if key not in ("schema", "schema_version")}
    write_json(folder / "gate.json", "gate", report)
    if not report["accepted"]:
        refused = [item for item in report["checks"] if not item["passed"]]
        return {"status": "refused"} | refusal(refused, [candidate, folder])
    return _measure(search, candidate, standard, folder, train, record)


def refusal(checks: Sequence[dict[str, Any]], private: Sequence[Path]) -> dict[str, Any]:
    """Return check and reason of a gate's failed checks: the first by name, all of them in words."""
    texts = [f"{item['check']}: {item.get('hint') or item.get('value')}" for item in checks]
    reason = clean("; ".join(texts), private) or "refused by the gate without a reason"
    return {"check": checks[0]["check"] if checks else "gate", "reason": reason}


def _measure(
    search: SearchSpec,
    candidate: Path,
    standard: dict[str, Any] | None,
    folder: Path,
    train: Train,
    record: dict[str, Any],
) -> dict[str, Any]:
    """Train every size (small to large) and seed, and judge; stop where no further training can change the verdict."""
    losses: dict[str, dict[str, float]] = record["losses"]
    order = ascending(search)
    for size in order:
        losses[size] = {}
        for seed in search.seeds:
            where = folder / "training" / size / f"seed_{seed}"
            summary = _train(train, run_spec(search, candidate, size, seed), where, [candidate, folder])
            record["parameters"] |= _one(size, summary, "parameters")
            record["flops"] |= _one(size, summary, "flops_per_token")
            if summary["status"] != "finished":
                reason = f"size {size}, seed {seed}: {summary['reason']}"
                return {"status": summary["status"], "check": "training", "reason": clean(reason, [candidate, folder])}
            losses[size][str(seed)] = float(summary["loss"])
        if standard and search.fitness == "slope":
            bound = fitness.best_possible_gain(losses, standard["losses"])
            if bound < -search.margin and size != order[-1]:
                return _guard(f"after size {size} the mean paired gain cannot exceed {bound:.4f} nats", search.margin)
    slope = fitness.ordinary_slope(losses, record["parameters"])
    if standard is None:
        value, noise = fitness.fitness(search.fitness, slope, 0.0), fitness.noise(losses, record["parameters"], 1)
        return {"status": "accepted", "slope": slope, "gain": 0.0, "fitness": value, "score": 0.5, "cost": 1.0} | {
            "noise": noise
        }
    gain = fitness.paired_gain(losses, standard["losses"])
    if search.fitness == "slope" and gain < -search.margin:
        return {"slope": slope, "gain": gain} | _guard(f"the mean paired gain is {gain:.4f} nats", search.margin)
    value = fitness.fitness(search.fitness, slope, gain)
    scaled = fitness.score(value, standard["standard"]["fitness"], standard["noise"][search.fitness])
    cost = _relative_cost(record["flops"], standard["flops"])
    return {"status": "accepted", "slope": slope, "gain": gain, "fitness": value, "score": scaled, "cost": cost}


def _relative_cost(candidate: dict[str, float], standard: dict[str, float]) -> float:
    """Return the mean over sizes of the training FLOPs per token relative to the standard (1 where unknown)."""
    ratios = [value / standard[size] for size, value in candidate.items() if standard.get(size)]
    return sum(ratios) / len(ratios) if ratios else 1.0


def _one(size: str, summary: dict[str, Any], key: str) -> dict[str, float]:
    value = summary.get(key)
    value = value["non_embedding"] if isinstance(value, dict) else value
    return {} if value is None else {size: value}


def _guard(what: str, margin: float) -> dict[str, Any]:
    reason = f"{what}, below the guard of −{margin:g}"
    return {"status": "refused", "check": "guard", "reason": reason}


def ascending(search: SearchSpec) -> list[str]:
    """Return the names of the sizes, small to large: the order in which a candidate is trained."""
    return sorted(search.architectures, key=lambda name: (search.architectures[name].width, name))


def run_spec(search: SearchSpec, candidate: Path, size: str, seed: int) -> RunSpec:
    """Return the spec of one of a candidate's trainings."""
    return RunSpec(
        framework=search.framework,
        variant="candidate",
        size=size,
        seed=seed,
        mechanism=MechanismReference(path=str(candidate), digest=digest_file(candidate)),
        corpus=search.corpus,
        architecture=search.architectures[size],
        optimisation=search.optimisation,
        measurement=search.measurement,
        execution=search.execution,
        sandbox=search.sandbox,
    )


def _train(train: Train, spec: RunSpec, folder: Path, private: Sequence[Path]) -> dict[str, Any]:
    """Train; an exception becomes a summary of status `failed`, unless the machine or the user is at fault."""
    try:
        summary = train(spec, folder)
    except (UserError, OSError):
        raise
    except Exception as error:
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    status = summary["status"]
    if status == "finished" and summary.get("loss") is None:
        return {**summary, "status": "diverged", "reason": "the final loss is not finite"}
    return {**summary, "status": status if status in ("finished", "diverged") else "failed"}


def clean(text: str, private: Sequence[Path]) -> str:
    """Return a reason on one line without paths and addresses, so that equal candidates give equal records."""
    for path in private:
        for name in (str(path.resolve()), str(path)):
            text = text.replace(name, path.name)
    text = re.sub(r"0x[0-9a-fA-F]+", "0x…", text)
    text = re.sub(r"(?<![\w.])/[\w.+-]+(/[\w.+-]+)+", "…", text)
    return " ".join(text.split())[:600]
