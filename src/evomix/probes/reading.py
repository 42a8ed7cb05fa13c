"""The sandboxed side of length generalisation: read rows of any length and return the losses, position by position.

Started by `lengths` as `python -m evomix.probes.reading OUTPUT MULTIPLES SPEC…`, never by hand.
"""

from __future__ import annotations

import json
import math
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from evomix.artifacts import write_json
from evomix.corpus.tokens import TokenRows
from evomix.model.transformer import Transformer
from evomix.probes.lengths import common_tokens
from evomix.specs import RunSpec, read_spec
from evomix.training.device import open_device
from evomix.training.head import token_losses
from evomix.training.inputs import check_corpus, load_mechanism, use_threads

TOKENS_PER_BATCH = 8_192


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


def main(output: str, multiples: str, *specs: str) -> None:
    """Run in the sandbox: write what `read_all` finds."""
    runs = read_all([Path(path) for path in specs], json.loads(multiples))
    write_json(Path(output), "probe_lengths_found", {"runs": runs})


if __name__ == "__main__":
    main(*sys.argv[1:])
