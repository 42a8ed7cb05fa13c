"""The table of the gallery: what every expert mechanism costs and reaches after a fixed budget, against softmax.

Counts and losses go to gallery.json, the same bytes for equal studies; measured times to gallery_timing.json beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evomix.artifacts import read_json, write_json
from evomix.errors import UserError
from evomix.mechanisms.members import STANDARD
from evomix.provenance import provenance
from evomix.settings import Gallery

COUNTED = ("parameters", "mechanism_parameters", "flops_per_token", "loss")
MEASURED = ("tokens_per_second", "peak_memory_bytes")


def tabulate(gallery: Gallery, summaries: Sequence[Path], stats: Path, output: Path, **labels: Any) -> None:
    """Write `output` (schema "gallery") from training summaries, and gallery_timing.json from timing.json beside them.

    Loss is in nats per token on the search shard, and to be of use it must beat the unigram entropy of the training
    text (nats per token); FLOPs are those of a forward pass. `labels` are those
    of `provenance`. UserError when a framework lacks its softmax.
    """
    entropy = read_json(stats, "corpus")["unigram_entropy"]
    runs = [(path, read_json(path, "training")) for path in summaries]
    counted = [_row(summary, entropy) for _, summary in runs]
    keys = ("framework", "member")
    measured = [
        {key: row[key] for key in keys} | _times(path.with_name("timing.json"))
        for row, (path, _) in zip(counted, runs, strict=True)
    ]
    budget = gallery.model_dump(mode="json")
    failing = [f"{row['framework']}/{row['member']}" for row in counted if not row["beats_unigram"]]
    record = {"budget": budget, "unigram_entropy": entropy, "members": _against(counted, COUNTED)}
    block = provenance("evomix.mechanisms.table", **labels)
    write_json(output, "gallery", {**record, "not_beating_unigram": failing, "provenance": block})
    write_json(
        output.with_name("gallery_timing.json"),
        "gallery_timing",
        {"budget": budget, "members": _against(measured, MEASURED)},
    )


def _row(summary: dict[str, Any], entropy: float) -> dict[str, Any]:
    loss, counts = summary["loss"], summary["parameters"]
    return {
        "framework": summary["framework"],
        "member": summary["variant"],
        "status": summary["status"],
        "reason": summary["reason"],
        "parameters": counts["non_embedding"],
        "mechanism_parameters": counts["mechanism"],
        "flops_per_token": summary["flops_per_token"],
        "loss": loss,
        "bits_per_byte": summary["bits_per_byte"],
        "beats_unigram": loss is not None and loss < entropy,
    }


def _times(path: Path) -> dict[str, Any]:
    timing = read_json(path, "timing")
    return {key: timing[key] for key in (*MEASURED, "seconds", "device")}


def _against(rows: list[dict[str, Any]], keys: Sequence[str]) -> list[dict[str, Any]]:
    """Add to every row its ratios to softmax of the same framework, None where either is missing."""
    base = {row["framework"]: row for row in rows if row["member"] == STANDARD}
    lacking = sorted({row["framework"] for row in rows} - set(base))
    if lacking:
        raise UserError(f"no training of {STANDARD} of {lacking[0]} among those given; the others are measured by it")
    return [
        row | {"against_softmax": {key: _ratio(row[key], base[row["framework"]][key]) for key in keys}} for row in rows
    ]


def _ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None
