"""Length generalisation: models of the validation read the test shard in rows longer than those they were trained on.

Sinusoidal positions go on beyond the trained length; whether the mechanism does is the question. The same tokens are
read at every length, so that only the context differs. Nothing is trained. The variant's code runs in the sandbox alone
(`reading`); this trusted side checks what came back, and imports no torch. All positions of a row between two
neighbouring multiples of the trained length share one mean loss.
"""

from __future__ import annotations

import json
import math
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from evomix.artifacts import read_json, write_json
from evomix.corpus.tokens import TokenRows
from evomix.errors import UserError
from evomix.gate import sandbox
from evomix.specs import RunSpec, read_spec

SECONDS = 1_800.0


def common_tokens(spec: RunSpec, longest: int) -> int:
    """Return how many tokens of the shard all lengths read: whole rows of the longest, about the curve's subset."""
    available = TokenRows(Path(spec.corpus.folder), spec.measurement.shard, 1).tokens - 1
    wanted = max(spec.measurement.rows * spec.architecture.sequence_length, longest)
    return min(available, wanted) // longest * longest


def read_lengths(specs: list[Path], multiples: list[int], output: Path) -> None:
    """Write what the runs of one variant, given by their specs, lose at every multiple of their length.

    Output: {framework, variant, trained, tokens, edges, runs}; a run has `seed`, `loss` (length → nats per token, the
    mean over all positions), `stretches` (length → mean loss between neighbouring `edges`) and `refused` (length →
    why). A diverged run has none of them. UserError when the sandboxed process fails as a whole.
    """
    runs = [read_spec(path, RunSpec) for path in specs]
    first = runs[0]
    trained = first.architecture.sequence_length
    edges = [0, *(trained * multiple for multiple in multiples)]
    if TokenRows(Path(first.corpus.folder), first.measurement.shard, trained).tokens <= edges[-1]:
        raise UserError(
            f"the {first.measurement.shard} shard is shorter than one row of {edges[-1]} tokens; lower probes.multiples"
        )
    statuses = {
        run.seed: read_json(path.parent / "summary.json", "training") for run, path in zip(runs, specs, strict=True)
    }
    sound = [path for run, path in zip(runs, specs, strict=True) if statuses[run.seed]["loss"] is not None]
    found = {item["seed"]: item for item in (_contained(first, sound, multiples) if sound else [])}
    records = []
    for run in runs:
        item = found.get(run.seed, {"stretches": {}, "refused": {}})
        widths = [last - start for start, last in pairwise(edges)]
        loss = {
            length: math.fsum(value * width for value, width in zip(values, widths, strict=False)) / int(length)
            for length, values in item["stretches"].items()
        }
        records.append({"seed": run.seed, "status": statuses[run.seed]["status"], "loss": loss, **item})
    write_json(
        output,
        "probe_lengths",
        {
            "framework": first.framework,
            "variant": first.variant,
            "trained": trained,
            "tokens": common_tokens(first, edges[-1]),
            "edges": edges,
            "runs": records,
        },
    )


def _contained(first: RunSpec, specs: list[Path], multiples: list[int]) -> list[dict[str, Any]]:
    """Run `read_all` in the sandbox and return what it found, checked for shape."""
    folder, shard = Path(first.corpus.folder), first.measurement.shard
    with tempfile.TemporaryDirectory(prefix="evomix-lengths-") as name:
        scratch = Path(name)
        result = sandbox.run(
            [
                "-m",
                "evomix.probes.reading",
                str(scratch / "found.json"),
                json.dumps(multiples),
                *(str(path.resolve()) for path in specs),
            ],
            readable=[
                *specs,
                *(path.parent / "model.safetensors" for path in specs),
                Path(first.mechanism.path),
                *(folder / name for name in ("stats.json", f"{shard}.bin", f"{shard}.json")),
            ],
            scratch=scratch,
            settings=first.sandbox,
            seconds=SECONDS,
            stream=True,
            gpu=first.execution.device == "cuda",
        )
        if result.returncode:
            lines = result.stderr.decode(errors="replace").strip().splitlines()
            reason = result.stopped or (lines[-1] if lines else f"status {result.returncode}")
            raise UserError(f"{first.mechanism.path} could not be read at other lengths: {reason}")
        found = read_json(scratch / "found.json", "probe_lengths_found")["runs"]
    seeds = [read_spec(path, RunSpec).seed for path in specs]
    trained = first.architecture.sequence_length
    wanted = {str(trained * multiple): number for number, multiple in enumerate(multiples, start=1)}
    checked = []
    for seed, item in zip(seeds, found, strict=True):
        stretches = {
            length: [float(value) for value in item["stretches"][length][:number]]
            for length, number in wanted.items()
            if length in item["stretches"]
        }
        refused = {length: str(item["refused"][length])[:300] for length in wanted if length in item["refused"]}
        checked.append({"seed": seed, "stretches": stretches, "refused": refused})
    return checked
