"""What each edit is worth: paired differences to the validation's runs of the same seeds.

The effect of an edit is the loss without it minus the loss with it, in nats per token: positive means that it helps.
Both sides share size, seed and hyper-parameters, so no noise of the tuning enters. p-values are Holm's over the edits
of one framework; they explain a verdict and are never one (PROTOCOL.md, secondary analyses).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evomix.ablation.section import AblationSection
from evomix.artifacts import read_json, write_json
from evomix.provenance import provenance
from evomix.statistics.multiplicity import holm
from evomix.statistics.observations import read_observations, require_seeds, select
from evomix.statistics.paired import paired_t

LEVEL = 0.95
"""Level of the intervals."""
UNIT = "nats per token; effect = loss without the edit − loss with it, so positive means that the edit helps"

Runs = Mapping[str, Sequence[Mapping[str, Any]]]
"""Ablated variant: its runs."""


def measure(
    edits: Path, workers: Sequence[Path], summaries: Sequence[Path], section: AblationSection, output: Path
) -> None:
    """Write ablation/{framework}.json: every edit with its losses and its effect, or why it has none.

    `summaries` are those of the validation's runs of the pair; UserError when one of the seeds is missing.
    """
    content = read_json(edits, "edits")
    framework, pair = content["framework"], content["pair"]
    observations = read_observations(summaries)
    whole = {
        role: {
            run.seed: run.loss
            for run in require_seeds(
                select(observations, framework, variant, section.size),
                section.seeds,
                f"{framework}/{variant} at size {section.size}",
            )
        }
        for role, variant in pair.items()
    }
    runs: dict[str, list[dict[str, Any]]] = {}
    for path in workers:
        for run in read_json(path, "ablation_worker")["runs"]:
            runs.setdefault(run["variant"], []).append(run)
    found = []
    for edit in content["edits"]:
        reverted = _measured(edit["reverted"], runs, whole["evolved"], 1)
        added = _measured(edit["added"], runs, whole["standard"], -1) if edit["added"] else None
        own = {"status": reverted["status"], "reason": reverted["reason"], "reverted": reverted, "added": added}
        found.append(edit | own)
    for kind in ("reverted", "added"):
        _correct([edit[kind]["effect"] for edit in found if edit[kind] and edit[kind]["effect"]])
    result = {
        "framework": framework,
        "pair": pair,
        "size": section.size,
        "seeds": section.seeds,
        "unit": UNIT,
        "level": LEVEL,
        "edits": found,
        "summary": _summary(found, pair, content["claims_differ"]),
        "provenance": provenance("evomix.ablation.effects", **section.labels()),
    }
    write_json(output, "ablation", result)


def _measured(block: Mapping[str, Any], runs: Runs, whole: Mapping[int, float], sign: int) -> dict[str, Any]:
    """Return status, losses by seed and effect of one ablated program beside the whole one (seed: loss).

    `sign` is 1 where the ablated program lacks the edit and −1 where it is the one that has it.
    """
    result = {"variant": block["variant"], "status": block["status"], "reason": block["reason"], "losses": {}}
    if block["status"] == "same_program":
        return result | {"effect": _effect(np.zeros(len(whole)), 0)}
    if block["status"] == "refused":
        return result | {"effect": None}
    trained = {int(run["seed"]): run for run in runs.get(block["variant"], [])}
    losses = {seed: trained[seed]["loss"] for seed in whole}
    lost = {seed: str(trained[seed]["reason"]) for seed, loss in losses.items() if loss is None}
    lost |= {seed: "the run that it is compared with diverged" for seed in whole if math.isnan(whole[seed])}
    pairs = [sign * (loss - whole[seed]) for seed, loss in losses.items() if loss is not None and seed not in lost]
    said = "; ".join(f"seed {seed}: {reason}" for seed, reason in sorted(lost.items()))
    return result | {
        "status": "trained" if pairs else "failed",
        "reason": f"{len(lost)} of {len(losses)} pairs have no difference: {said}" if lost else None,
        "losses": {str(seed): loss for seed, loss in losses.items()},
        "effect": _effect(np.array(pairs, dtype=np.float64), len(lost)) if pairs else None,
    }


def _effect(difference: np.ndarray[Any, np.dtype[np.float64]], lost: int) -> dict[str, Any]:
    test = paired_t(difference, 1 - LEVEL)
    return {"mean": test.mean, "low": test.low, "high": test.high, "p": test.p, "n": test.n, "lost": lost}


def _correct(effects: Sequence[dict[str, Any]]) -> None:
    """Add Holm's p over the edits."""
    adjusted = holm({f"{place:06}": effect["p"] for place, effect in enumerate(effects)})
    for effect, p in zip(effects, adjusted.values(), strict=True):
        effect["holm_p"] = p


def _summary(edits: Sequence[Mapping[str, Any]], pair: Mapping[str, str], claims_differ: bool) -> str:
    """Say in a sentence what the edits are worth."""
    standard, evolved = pair["standard"], pair["evolved"]
    if not edits:
        same = "only what they declare differs" if claims_differ else f"{evolved} computes what {standard} computes"
        return f"nothing evolved: no edit to ablate ({same})"
    said = [f"{len(edits)} edit{'s' if len(edits) > 1 else ''} between {standard} and {evolved}"]
    effects = {edit["title"]: edit["reverted"]["effect"] for edit in edits if edit["reverted"]["effect"]}
    acting = {title: effect for title, effect in effects.items() if not is_zero(effect)}
    if acting:
        title, effect = max(acting.items(), key=lambda item: item[1]["mean"])
        numbers = f"{effect['mean']:+.4f} nats per token"
        if math.isfinite(effect["low"]):
            numbers += f", {100 * LEVEL:.0f} % CI [{effect['low']:+.4f}, {effect['high']:+.4f}]"
        doubt = "" if effect["holm_p"] < 1 - LEVEL else ", not told from zero"
        said.append(f"the one worth most ({title}): {numbers}{doubt}")
    counts = {"worth exactly nothing": len(effects) - len(acting), "not measured": len(edits) - len(effects)}
    said += [f"{count} {what}" for what, count in counts.items() if count]
    return "; ".join(said)


def is_zero(effect: Mapping[str, Any]) -> bool:
    """Tell whether an effect is exactly zero: every loss is the same, bit for bit, with the edit and without."""
    return bool(effect["mean"] == effect["low"] == effect["high"] == 0)
