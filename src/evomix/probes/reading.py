"""Length generalisation: models of the validation read the test shard in rows longer than those they were trained on.

Sinusoidal positions go on beyond the trained length; whether the mechanism does is the question. The same tokens are
read at every length, so that only the context differs. Nothing is trained. The variant's code runs only in the sandbox,
as this module's `__main__`; the trusted side checks what came back. All positions of a row from ⌊T·a⌋ to T·b, with a
and b neighbouring multiples, share one mean loss.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from evomix.artifacts import read_json, write_json
from evomix.corpus.tokens import TokenRows
from evomix.errors import UserError
from evomix.gate import sandbox
from evomix.model.transformer import Transformer
from evomix.specs import RunSpec, read_spec
from evomix.training.device import open_device
from evomix.training.head import token_losses
from evomix.training.inputs import check_corpus, load_mechanism, use_threads

TOKENS_PER_BATCH = 8_192
SECONDS = 1_800.0


def position_losses(model: Transformer, spec: RunSpec, length: int, tokens: int) -> list[float]:
    """Return the mean loss (nats per token) at every position of rows of `length` over the first `tokens` tokens."""
    device = model.embedding.weight.device
    rows = TokenRows(Path(spec.corpus.folder), spec.measurement.shard, length)
    total = torch.zeros(length, dtype=torch.float64)
    count, batch = tokens // length, max(1, TOKENS_PER_BATCH // length)
    half = spec.execution.precision == "bfloat16"
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)
    with torch.no_grad(), autocast, model.reading(length):
        for start in range(0, count, batch):
            read = torch.from_numpy(rows.read(torch.arange(start, min(start + batch, count)).numpy())).to(device)
            losses_BT = token_losses(model.hidden(read[:, :-1], None), model.embedding.weight, read[:, 1:])
            total += losses_BT.sum(0).cpu()
    return (total / count).tolist()


def common_tokens(spec: RunSpec, longest: int) -> int:
    """Return how many tokens of the shard all lengths read: whole rows of the longest, about the curve's subset."""
    available = TokenRows(Path(spec.corpus.folder), spec.measurement.shard, 1).tokens - 1
    wanted = max(spec.measurement.rows * spec.architecture.sequence_length, longest)
    return min(available, wanted) // longest * longest


def read_all(specs: list[Path], multiples: list[int]) -> list[dict[str, Any]]:
    """Return per run and multiple the mean loss of every stretch of positions, or why there is none.

    Executes the mechanism's file.
    """
    use_threads()
    found = []
    for path in specs:
        spec = read_spec(path, RunSpec)
        check_corpus(spec)
        model = Transformer(spec.architecture, load_mechanism(spec), spec.seed)
        model.load_state_dict(load_file(path.parent / "model.safetensors"))
        model.to(open_device(spec.execution.device, spec.execution.deterministic))
        trained = spec.architecture.sequence_length
        tokens = common_tokens(spec, trained * multiples[-1])
        stretches: dict[str, list[float]] = {}
        refused: dict[str, str] = {}
        for multiple in multiples:
            length = trained * multiple
            edges = [0, *(trained * edge for edge in multiples if edge <= multiple)]
            try:
                losses = position_losses(model, spec, length, tokens)
            except Exception as error:  # what a mechanism may do at a length it was not made for is without limit
                refused[str(length)] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                continue
            stretches[str(length)] = [math.fsum(losses[first:last]) / (last - first) for first, last in pairwise(edges)]
        found.append({"seed": spec.seed, "stretches": stretches, "refused": refused})
    return found


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


def main(output: str, multiples: str, *specs: str) -> None:
    """Run in the sandbox: write what `read_all` finds."""
    runs = read_all([Path(path) for path in specs], json.loads(multiples))
    write_json(Path(output), "probe_lengths_found", {"runs": runs})


if __name__ == "__main__":
    main(*sys.argv[1:])
