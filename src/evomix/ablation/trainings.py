"""Train ablated mechanisms on the validation's seeds, exactly as the validation trains its pair.

An effect is a difference to a run of the validation, so everything else is equal: size, seeds, steps, shard, and the
hyper-parameters of the program that the ablated one is compared with (the candidate's without an edit, the
reference's with one edit alone). Runs are never stacked, as those of the validation are not: an edit that computes
nothing then leaves every bit as it was. A killed job keeps its finished runs.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evomix.artifacts import read_json, write_json
from evomix.settings import Seeds
from evomix.specs import RunSpec, spec_digest
from evomix.training.contained import RunError

Specify = Callable[[str, Path, int], RunSpec]
"""Returns the spec of a run from the kind of ablation (`reverted`, `added`), the mechanism and the seed."""
Train = Callable[[Sequence[tuple[RunSpec, Path]]], list[dict[str, Any]]]
"""Trains runs into their folders, resumable, and returns their summaries; raises RunError when one fails."""
KINDS = ("reverted", "added")


def train(
    edits: Path, folder: Path, seeds: Seeds, worker: int, workers: int, output: Path, *, specify: Specify, train: Train
) -> None:
    """Train the runs whose number leaves `worker` on division by `workers`; write their results to `output`.

    `edits` is edits.json and `folder` holds its mechanisms; each run lives in runs/{variant}/seed_{seed}/ beside
    `output`. A run that fails or diverges is a result with its reason.
    """
    runs = [
        specify(kind, folder / f"{item[kind]['variant']}.py", seed)
        for item in read_json(edits, "edits")["edits"]
        for kind in KINDS
        if item[kind] and item[kind]["status"] == "separate"
        for seed in seeds
    ]
    mine = [(spec, output.parent / "runs" / spec.variant / f"seed_{spec.seed}") for spec in runs[worker::workers]]
    if mine:
        with contextlib.suppress(RunError):  # the loop below finds out which run it was
            train(mine)
    records = []
    for number, (spec, place) in enumerate(mine, start=1):
        summary = _summary(spec, place, train)
        said = "no loss" if summary["loss"] is None else f"loss {summary['loss']:.4f}"
        print(f"{spec.variant}, seed {spec.seed} ({number} of {len(mine)}): {said}", file=sys.stderr, flush=True)
        kept = {key: summary.get(key) for key in ("status", "reason", "loss")}
        records.append({"variant": spec.variant, "seed": spec.seed, "spec_digest": spec_digest(spec), **kept})
    write_json(output, "ablation_worker", {"worker": worker, "runs": records})


def _summary(spec: RunSpec, folder: Path, train: Train) -> dict[str, Any]:
    try:
        return train([(spec, folder)])[0]
    except RunError as error:
        return {"status": "failed", "reason": str(error), "loss": None}
