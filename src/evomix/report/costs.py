"""Tables of costs: what a variant costs per token and step, and what the whole study has cost so far."""

from __future__ import annotations

from statistics import median
from typing import Any

from evomix.figures.tree import Results
from evomix.plan.bill import assumptions, kilowatt_hours, rent
from evomix.report.table import Columns, Table, make
from evomix.settings import Costs

PHASES = {
    "tuning": "tuning",
    "evolution": "search",
    "training": "validation and scaling",
    "ablation": "ablation",
    "probes": "probes",
    "gallery": "gallery",
}
"""Folder under the results in which trainings left a timing.json: what the report calls the phase."""
NUMBERS = ("parameters", "total", "mechanism", "flops", "counted", "torch", "milliseconds", "speed", "memory", "to_90")


def _run(results: Results, path: str) -> dict[str, Any]:
    """Return counts and times of one training; measured times are null where timing.json is missing."""
    summary, timing = results.json(f"{path}/summary.json") or {}, results.json(f"{path}/timing.json") or {}
    counts, flops = summary.get("parameters") or {}, summary.get("flops") or {}
    peak, rate, together = timing.get("peak_memory_bytes"), timing.get("steps_per_second"), timing.get("runs", 1)
    speed = timing.get("tokens_per_second")
    return {
        "framework": summary["framework"],
        "variant": summary["variant"],
        "size": summary["size"],
        "parameters": counts.get("non_embedding"),
        "total": counts.get("total"),
        "mechanism": counts.get("mechanism"),
        "flops": summary.get("flops_per_token"),
        "counted": flops.get("counted"),
        "torch": flops.get("torch"),
        "unseen": flops.get("unseen"),
        "milliseconds": 1_000 / (rate * together) if rate else None,
        "speed": None if speed is None else speed * together,
        "memory": None if peak is None else peak / 2**20,
        "to_90": summary.get("steps_to_90"),
        "device": timing.get("device"),
    }


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of every number over the runs that have it, else None; what is no number of the first."""
    found = {key: [run[key] for run in runs if run[key] is not None] for key in NUMBERS}
    return {key: median(values) if values else None for key, values in found.items()} | {
        key: runs[0][key] for key in ("device", "unseen")
    }


def measured_costs(results: Results, *frameworks: str) -> list[dict[str, Any]]:
    """Return one record per framework, size and variant: counts, and medians over the runs of measured quantities.

    All frameworks of the study unless some are named. `ratio` is forward FLOPs against the variant to beat,
    `counted_ratio` the same of what was counted as it ran.
    """
    records: list[dict[str, Any]] = []
    for framework in frameworks or results.frameworks():
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for path in sorted((results.root / "training" / framework).glob("*/*/seed_*/summary.json")):
            run = _run(results, path.parent.relative_to(results.root).as_posix())
            groups.setdefault((run["size"], run["variant"]), []).append(run)
        rows = {key: _medians(runs) for key, runs in groups.items()}
        for (size, variant), row in sorted(rows.items(), key=lambda item: (item[1]["parameters"], item[0])):
            base = rows.get((size, results.pair(framework)["standard"]), {})
            ratios = {
                name: row[key] / base[key] if base.get(key) and row[key] else None
                for name, key in (("ratio", "flops"), ("counted_ratio", "counted"))
            }
            records.append({"framework": framework, "size": size, "variant": variant, **row, **ratios})
    return records


def costs(results: Results) -> Table:
    """Return one row per framework, size and variant: parameters, FLOPs, time and memory."""
    records = measured_costs(results)
    columns: Columns = {
        "framework": ("framework", "text"),
        "size": ("size", "text"),
        "variant": ("variant", "text"),
        "parameters": ("N (non-embedding)", "count"),
        "total": ("parameters in total", "count"),
        "mechanism": ("of these in the mechanism", "count"),
        "flops": ("forward FLOPs per token", "count"),
        "ratio": ("against the variant to beat", "ratio"),
        "milliseconds": ("ms per step", "number"),
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


def operations(results: Results) -> Table:
    """Return one row per framework, size and variant: operations as stated, counted, and counted by torch."""
    records = []
    for row in measured_costs(results):
        lost = sorted((row["unseen"] or {}).items(), key=lambda item: (-item[1], item[0]))
        told = ", ".join(f"{name.strip('_')} {count / row['counted']:.1%}" for name, count in lost[:4])
        share = sum(count for _, count in lost) / row["counted"] if row["counted"] else None
        records.append(row | {"share": share, "blind": told or None})
    columns: Columns = {
        "framework": ("framework", "text"),
        "size": ("size", "text"),
        "variant": ("variant", "text"),
        "flops": ("stated", "count"),
        "counted": ("counted as it runs", "count"),
        "counted_ratio": ("against the variant to beat", "ratio"),
        "torch": ("torch's counter", "count"),
        "share": ("torch's counter misses", "share"),
        "blind": ("most of it in", "text"),
    }
    caption = (
        "Forward operations per token, three ways. Stated: matrix products from the shapes and the mechanism's own "
        "formula (an evolved one has a count). Counted: every operation of a sequence as it runs, but the loss. "
        "Torch's counter knows matrix products only: FFT, cumulative sums, solves, softmax and, on a CPU, fused "
        "attention cost nothing there, so it must not be used to compare mechanisms."
    )
    return make("operations", "Operations, stated and counted", caption, columns, records)


def _spent(results: Results) -> dict[str, Any] | None:
    """Return calls and dollars of the language model over all arms, or None when none was called."""
    found = [
        (results.json(f"evolution/{framework}/{arm}/selection.json") or {}).get("spent") or {}
        for framework in results.frameworks()
        for arm in results.arms(framework)
    ]
    calls = sum(item.get("calls", 0) for item in found)
    dollars = sum(item.get("dollars", 0.0) for item in found)
    return {"phase": "language model", "device": "endpoint", "runs": calls, "dollars": dollars} if calls else None


def study_costs(results: Results) -> Table:
    """Return one row per phase and device: trainings carried out, their hours, energy and rent; then their sum."""
    rates = Costs.model_validate(results.section("costs"))
    hours: dict[tuple[str, str], list[float]] = {}
    for folder, phase in PHASES.items():
        for path in sorted((results.root / folder).glob("**/timing.json")):
            timing = results.json(path.relative_to(results.root).as_posix()) or {}
            # Runs that were trained in one stack each tell the whole stack's seconds.
            own = timing["seconds"] / timing.get("runs", 1) / 3_600
            hours.setdefault((phase, timing.get("device", "unknown")), []).append(own)
    records: list[dict[str, Any]] = [
        {
            "phase": phase,
            "device": device,
            "runs": len(spent),
            "hours": sum(spent),
            "energy": kilowatt_hours(rates, sum(spent), device),
            "dollars": rent(rates, sum(spent), device),
        }
        for (phase, device), spent in hours.items()
    ]
    model = _spent(results)
    records += [model] if model else []
    if len(records) > 1:
        total = {key: sum(row.get(key, 0) for row in records) for key in ("runs", "hours", "energy", "dollars")}
        records.append({"phase": "all", "device": "", **total})
    columns: Columns = {
        "phase": ("phase", "text"),
        "device": ("device", "text"),
        "runs": ("trainings or calls", "count"),
        "hours": ("hours", "number"),
        "energy": ("energy (kWh, estimate)", "number"),
        "dollars": ("dollars (estimate)", "number"),
    }
    devices = sorted({device for _, device in hours})
    said = "; ".join(assumptions(rates, device) for device in devices)
    caption = (
        "Hours are measured: of training alone, without starting processes, gates and analysis. Energy and dollars are "
        f"estimates by the rates of the config ({said or 'none yet'})."
    )
    return make("study_costs", "Cost of the study", caption, columns, records)
