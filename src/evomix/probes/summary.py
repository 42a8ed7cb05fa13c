"""What the probes of a framework say: accuracy of both variants per task against chance, and their paired difference.

Exploratory: no claim of the study rests on it. Intervals are Student's over the seeds, so with two or three seeds they
are wide; p-values are Holm-corrected over the tasks of the framework. Positive differences favour the candidate.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from evomix.artifacts import read_json, write_json
from evomix.probes.settings import Probes, ProbeTask
from evomix.probes.task import Task
from evomix.probes.tasks import make
from evomix.provenance import provenance
from evomix.specs import PolicySection
from evomix.statistics.multiplicity import holm
from evomix.statistics.paired import Floats, paired_t

ALPHA = 0.05
LEARNT = 0.1
"""A task counts as learnt by a variant whose mean lies this share of the way from chance to the ceiling, or higher."""
SHARE = 0.9
"""Steps are counted until this share of the ceiling (1, except where the sequence leaves the answer open)."""


def _asked(setting: ProbeTask, task: Task, length: int) -> tuple[str, str]:
    """Return title of a task at a length, and the positions its accuracy is about."""
    place = setting.lengths.index(length)
    if len(setting.lengths) == 1:
        return task.title, task.title
    first = setting.lengths[place - 1] + 1 if place else 1
    return f"{task.title}, positions {first} to {length}", task.title


def _steps_to(run: dict[str, Any], length: int, target: float) -> int | None:
    """Return the first evaluated step at which accuracy reached `target`, or None when it never did."""
    for step, accuracy in run["curve"]:
        value = accuracy.get(str(length))
        if value is not None and value >= target:
            return int(step)
    return None


def _variant(runs: dict[int, dict[str, Any]], length: int, target: float) -> dict[str, Any]:
    """Return accuracy and steps per seed, reasons where there is none, and the mean with its interval in [0, 1]."""
    seeds = {seed: run["accuracy"].get(str(length)) for seed, run in runs.items()}
    reasons = {
        str(seed): runs[seed]["reason"] or runs[seed]["refused"].get(str(length)) or runs[seed]["status"]
        for seed, value in seeds.items()
        if value is None
    }
    found = paired_t(np.array([value for value in seeds.values() if value is not None], dtype=np.float64), ALPHA)
    return {
        "seeds": {str(seed): value for seed, value in seeds.items()},
        "steps_to_90": {str(seed): _steps_to(run, length, target) for seed, run in runs.items()},
        "reasons": reasons,
        "mean": found.mean,
        "low": max(0.0, found.low),  # NaN stays NaN: max keeps its second argument then
        "high": min(1.0, found.high),
    }


def _difference(reference: dict[str, Any], candidate: dict[str, Any]) -> dict[str, Any]:
    """Return the paired difference candidate − reference over the seeds that both have."""
    pairs = [(reference["seeds"][seed], candidate["seeds"][seed]) for seed in reference["seeds"]]
    values: Floats = np.array([theirs - ours for ours, theirs in pairs if None not in (ours, theirs)], dtype=np.float64)
    found = paired_t(values, ALPHA)
    return {"mean": found.mean, "low": found.low, "high": found.high, "p": found.p, "n": found.n}


def _sentence(title: str, pair: tuple[str, str], record: dict[str, Any]) -> str:
    """Say in a sentence what a task shows."""
    ours, theirs = (record["variants"][variant] for variant in pair)
    lost = [
        f"{variant} has no accuracy on {len(item['reasons'])} of {len(item['seeds'])} seeds "
        f"({next(iter(item['reasons'].values()))})"
        for variant, item in zip(pair, (ours, theirs), strict=True)
        if item["reasons"]
    ]
    told = f" {'; '.join(lost)}." if lost else ""
    difference = record["difference"]
    if not difference["n"]:
        return f"{title}: no seed has both variants.{told}"
    numbers = f"{theirs['mean']:.2f} against {ours['mean']:.2f} of {pair[0]} (chance {record['chance']:.2f})"
    threshold = record["chance"] + LEARNT * (record["ceiling"] - record["chance"])
    if max(ours["mean"], theirs["mean"]) < threshold:
        return f"{title}: neither variant has learnt it, {numbers}.{told}"
    if difference["n"] < 2:
        return f"{title}: {numbers} on a single seed, which shows nothing.{told}"
    interval = f"difference {difference['mean']:+.2f}, 95 % CI {difference['low']:+.2f} to {difference['high']:+.2f}"
    holds = difference["p_holm"] is not None and difference["p_holm"] <= ALPHA
    word = ("better" if difference["mean"] > 0 else "worse") if holds else "no difference shown"
    return f"{title}: {pair[1]} {word}, {numbers}; {interval}, n = {difference['n']}.{told}"


def _length(files: list[Path], pair: tuple[str, str]) -> dict[str, Any]:
    """Return loss against context for both variants, from what their validation runs read."""
    records = {variant: read_json(path, "probe_lengths") for variant, path in zip(pair, files, strict=True)}
    first = records[pair[0]]
    variants = {}
    for variant, record in records.items():
        lengths = {}
        for length in map(str, first["edges"][1:]):
            runs = [run for run in record["runs"] if length in run["loss"]]
            found = paired_t(np.array([run["loss"][length] for run in runs], dtype=np.float64), ALPHA)
            stretches = np.array([run["stretches"][length] for run in runs], dtype=np.float64)
            lengths[length] = {
                "seeds": {str(run["seed"]): run["loss"][length] for run in runs},
                "mean": found.mean,
                "low": found.low,
                "high": found.high,
                "stretches": stretches.mean(0).tolist() if len(runs) else [],
            }
        reasons = {
            str(run["seed"]): next(iter(run["refused"].values()), run["status"])
            for run in record["runs"]
            if run["refused"] or not run["loss"]
        }
        variants[variant] = {"lengths": lengths, "reasons": reasons}
    return {key: first[key] for key in ("trained", "tokens", "edges")} | {"variants": variants}


def summarise(
    probes: Probes, labels: PolicySection, pair: tuple[str, str], runs: list[Path], lengths: list[Path], output: Path
) -> None:
    """Write the probes of one framework; `runs` and `lengths` are the files of the reference, then the candidate's."""
    found = {variant: read_json(path, "probe_runs") for variant, path in zip(pair, runs, strict=True)}
    by_task = {
        variant: {
            setting.name: {run["seed"]: run for run in record["runs"] if run["task"] == setting.name}
            for setting in probes.tasks
        }
        for variant, record in found.items()
    }
    tasks: dict[str, dict[str, Any]] = {}
    for setting in probes.tasks:
        task = make(setting)
        for length, name in setting.results.items():
            variants = {
                variant: _variant(by_task[variant][setting.name], length, SHARE * task.ceiling) for variant in pair
            }
            tasks[name] = {
                "title": _asked(setting, task, length)[0],
                "metric": "accuracy",
                "chance": task.chance,
                "ceiling": task.ceiling,
                "length": length,
                "trained": setting.lengths[0],
                "variants": variants,
                "difference": _difference(*variants.values()),
            }
    corrected = holm({name: record["difference"]["p"] for name, record in tasks.items()})
    for name, record in tasks.items():
        record["difference"]["p_holm"] = None if math.isnan(corrected[name]) else corrected[name]
        record["sentence"] = _sentence(record["title"], pair, record)
    write_json(
        output,
        "probes",
        {
            "framework": found[pair[0]]["framework"],
            "pair": list(pair),
            "steps": probes.steps,
            "order": list(tasks),
            "tasks": tasks,
            "length": _length(lengths, pair),
            "provenance": provenance(__name__, **labels.labels()),
        },
    )
