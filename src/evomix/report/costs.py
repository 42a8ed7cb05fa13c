"""Tables of costs: what a variant costs per token and step, and what the whole study has cost so far."""

from __future__ import annotations

from statistics import median
from typing import Any

from evomix.figures.tree import Results
from evomix.report.table import Columns, Table, make

PHASES = {"tuning": "tuning", "evolution": "search", "training": "trainings"}
NUMBERS = ("parameters", "total", "mechanism", "flops", "speed", "memory", "to_90")


def _run(results: Results, path: str) -> dict[str, Any]:
    """Return counts and times of one training; measured times are null where timing.json is missing."""
    summary, timing = results.json(f"{path}/summary.json") or {}, results.json(f"{path}/timing.json") or {}
    counts = summary.get("parameters") or {}
    peak = timing.get("peak_memory_bytes")
    return {
        "framework": summary["framework"],
        "variant": summary["variant"],
        "size": summary["size"],
        "parameters": counts.get("non_embedding"),
        "total": counts.get("total"),
        "mechanism": counts.get("mechanism"),
        "flops": summary.get("flops_per_token"),
        "speed": timing.get("tokens_per_second"),
        "memory": None if peak is None else peak / 2**20,
        "to_90": summary.get("steps_to_90"),
        "device": timing.get("device"),
    }


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of every number over the runs that have it, else None; the device of the first."""
    found = {key: [run[key] for run in runs if run[key] is not None] for key in NUMBERS}
    return {key: median(values) if values else None for key, values in found.items()} | {"device": runs[0]["device"]}


def costs(results: Results) -> Table:
    """Return one row per framework, size and variant: counts, and medians over the runs of measured quantities."""
    records: list[dict[str, Any]] = []
    for framework in results.frameworks():
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for path in sorted((results.root / "training" / framework).glob("*/*/seed_*/summary.json")):
            run = _run(results, path.parent.relative_to(results.root).as_posix())
            groups.setdefault((run["size"], run["variant"]), []).append(run)
        rows = {key: _medians(runs) for key, runs in groups.items()}
        for (size, variant), row in sorted(rows.items(), key=lambda item: (item[1]["parameters"], item[0])):
            base = rows.get((size, results.pair(framework)["standard"]), {}).get("flops")
            ratio = row["flops"] / base if base else None
            records.append({"framework": framework, "size": size, "variant": variant, **row, "ratio": ratio})
    columns: Columns = {
        "framework": ("framework", "text"),
        "size": ("size", "text"),
        "variant": ("variant", "text"),
        "parameters": ("N (non-embedding)", "count"),
        "total": ("parameters in total", "count"),
        "mechanism": ("of these in the mechanism", "count"),
        "flops": ("forward FLOPs per token", "count"),
        "ratio": ("against the variant to beat", "ratio"),
        "speed": ("tokens per second", "count"),
        "memory": ("peak memory (MiB)", "count"),
        "to_90": ("steps to 90 % of the gain", "count"),
        "device": ("device", "text"),
    }
    caption = (
        "FLOPs and parameters are counted, speed and memory are measured: medians over the seeds, and only as "
        "comparable as the machines that trained them were equally busy."
    )
    return make("costs", "Costs of the variants", caption, columns, records)


def gallery(results: Results) -> Table:
    """Return one row per expert mechanism: costs and the loss after a fixed budget, against softmax."""
    table, timing = results.json("gallery.json") or {}, results.json("gallery_timing.json") or {}
    times = {(row["framework"], row["member"]): row for row in timing.get("members", [])}
    records = []
    for row in table.get("members", []):
        measured = times.get((row["framework"], row["member"]), {})
        ratios = row["against_softmax"] | measured.get("against_softmax", {})
        peak = measured.get("peak_memory_bytes")
        records.append(
            {**measured, **row}
            | {f"{key}_ratio": value for key, value in ratios.items()}
            | {"memory": None if peak is None else peak / 2**20}
        )
    columns: Columns = {
        "framework": ("framework", "text"),
        "member": ("member", "text"),
        "parameters": ("N (non-embedding)", "count"),
        "mechanism_parameters": ("of these in the mechanism", "count"),
        "flops_per_token": ("forward FLOPs per token", "count"),
        "flops_per_token_ratio": ("against softmax", "ratio"),
        "loss": ("loss (nats/token)", "loss"),
        "loss_ratio": ("against softmax", "ratio"),
        "bits_per_byte": ("bits per byte", "loss"),
        "beats_unigram": ("beats the unigram entropy", "flag"),
        "tokens_per_second": ("tokens per second", "count"),
        "tokens_per_second_ratio": ("against softmax", "ratio"),
        "memory": ("peak memory (MiB)", "count"),
        "status": ("status", "text"),
    }
    caption = (
        "Every expert mechanism of the gallery, trained alike with the standard's hyper-parameters and one seed; a "
        "small lead in loss may be the seed's. Speed and memory are measured once."
    )
    return make("gallery", "The expert mechanisms", caption, columns, records)


def study_costs(results: Results) -> Table:
    """Return one row per phase and device: trainings carried out and their hours."""
    hours: dict[tuple[str, str], list[float]] = {}
    for folder, phase in PHASES.items():
        for path in sorted((results.root / folder).glob("**/timing.json")):
            timing = results.json(path.relative_to(results.root).as_posix()) or {}
            hours.setdefault((phase, timing.get("device", "unknown")), []).append(timing["seconds"] / 3600)
    records = [
        {"phase": phase, "device": device, "runs": len(spent), "hours": sum(spent)}
        for (phase, device), spent in hours.items()
    ]
    columns: Columns = {
        "phase": ("phase", "text"),
        "device": ("device", "text"),
        "runs": ("trainings", "count"),
        "hours": ("hours", "number"),
    }
    caption = "Hours of training, summed over runs: one device each, whatever else it was doing."
    return make("study_costs", "Cost of the study", caption, columns, records)
