"""Where an evolved variant fails, from every phase that has measured it; a phase not done is named, never guessed."""

from __future__ import annotations

from typing import Any

from evomix.figures.naming import words
from evomix.figures.tree import Results
from evomix.report.formats import interval, is_null, show

LEVEL = 0.05
"""A probe speaks against a variant when Holm's p over the tasks stays below this."""


def _validation(found: dict[str, Any]) -> list[str]:
    """Say which seeds diverged, which were worse, and whether the search had promised more."""
    said = []
    diverged = found["diverged"]["evolved"]
    if diverged:
        said.append(f"diverged on seed {', '.join(map(str, diverged))}")
    worse = [row for row in found["per_seed"] if not is_null(row["difference"]) and row["difference"] < 0]
    if worse:
        told = ", ".join(f"{row['seed']} ({show(row['difference'], 'gain')})" for row in worse[:5])
        more = f" and {len(worse) - 5} more" if len(worse) > 5 else ""
        said.append(f"worse than the standard on {len(worse)} of {len(found['per_seed'])} seeds: {told}{more}")
    curse = found.get("winners_curse") or {}
    if curse.get("found") and curse["search"] > 0 >= curse["validation"]:
        numbers = f"{show(curse['search'], 'gain')} there, {show(curse['validation'], 'gain')} here"
        said.append(f"its gain in the search did not last: {numbers}")
    return said


def _scaling(found: dict[str, Any]) -> list[str]:
    worse = [item for item in found["sizes"] if not item["better"]]
    if not worse:
        return []
    told = ", ".join(f"{item['size']} ({show(item['difference']['mean'], 'gain')})" for item in worse)
    return [f"no better mean loss at {len(worse)} of {len(found['sizes'])} sizes: {told}"]


def _tuning(found: dict[str, Any]) -> list[str]:
    edges = " and ".join(words(name) for name in found["at_edge"])
    return [f"tuned to the edge of the searched range in {edges}: more range might have helped it"] if edges else []


def _ablation(found: dict[str, Any]) -> list[str]:
    said = []
    for edit in found["edits"]:
        effect = edit["reverted"].get("effect")
        if effect and not is_null(effect["high"]) and effect["high"] < 0:
            said.append(f"edit {edit['index']} ({edit['title']}) does harm: {show(effect['mean'], 'gain')} nats/token")
    return said


def _probes(found: dict[str, Any]) -> list[str]:
    """Name the tasks at which the candidate is worse beyond chance; where none is, the lowest difference."""
    known = {
        name: task
        for name, task in found["tasks"].items()
        if task["difference"] and not is_null(task["difference"]["mean"])
    }
    gaps = {name: task["difference"] for name, task in known.items()}
    beyond = [
        known[name]
        for name, gap in gaps.items()
        if gap["mean"] < 0 and not is_null(gap["p_holm"]) and gap["p_holm"] <= LEVEL
    ]
    if beyond:
        return [task["sentence"] for task in beyond]
    lowest = min(known.values(), key=lambda task: float(task["difference"]["mean"]), default=None)
    if lowest is None or lowest["difference"]["mean"] >= 0:
        return []
    gap = lowest["difference"]
    told = f"{show(gap['mean'], 'effect')}, 95 % CI {interval([gap['low'], gap['high']], 'effect')}"
    return [f"its lowest probe is {lowest['title']}: {told}, not told from zero"]


def _lengths(found: dict[str, Any], standard: str, evolved: str) -> list[str]:
    """Say whether the loss grows more than the standard's beyond the trained length."""
    block = found.get("length") or {}
    lengths = {name: item["lengths"] for name, item in block.get("variants", {}).items()}
    if not {standard, evolved} <= set(lengths):
        return []
    said = [
        f"it cannot read longer rows (seed {seed}: {reason})"
        for seed, reason in sorted(block["variants"][evolved].get("reasons", {}).items())[:1]
    ]
    longest = max(map(int, lengths[evolved]), default=0)
    ours, theirs = (lengths[name].get(str(longest), {}) for name in (standard, evolved))
    means, bounds = [ours.get("mean"), theirs.get("mean")], [ours.get("high"), theirs.get("low")]
    # Only what stands clear: intervals that do not touch, where there are any.
    apart = not any(map(is_null, bounds)) and bounds[1] > bounds[0]
    if longest > block["trained"] and apart:
        said.append(
            f"at {longest} tokens, trained on {block['trained']}, its loss is {show(means[1], 'loss')} against "
            f"{show(means[0], 'loss')}"
        )
    return said


def _certificate(found: dict[str, Any]) -> list[str]:
    failed = [check["check"] for check in found["checks"] if not check["passed"]]
    return [f"with trained weights it fails {', '.join(failed)}"] if failed else []


def failures(results: Results, framework: str) -> tuple[list[str], list[str]]:
    """Return (where the evolved variant of a framework fails, phases that could have shown it and are not done)."""
    pair = results.pair(framework)
    tuned = results.tuned(framework)[-1]
    phases = {
        "the paired validation": (f"validation/{framework}.json", _validation),
        "the scaling law": (f"scaling/{framework}.json", _scaling),
        "its tuning": (f"tuning/{framework}/{tuned}/best.json", _tuning),
        "its certificate with trained weights": (
            f"mechanisms/{framework}/{pair['evolved']}.trained.certificate.json",
            _certificate,
        ),
        "the ablation": (f"ablation/{framework}.json", _ablation),
        "the probes": (
            f"probes/{framework}.json",
            lambda found: _probes(found) + _lengths(found, pair["standard"], pair["evolved"]),
        ),
    }
    said, missing = list[str](), list[str]()
    for phase, (path, tell) in phases.items():
        found = results.json(path)
        if found is None:
            missing.append(phase)
        else:
            said += tell(found)
    return said, missing
