"""Held-out loss: on a fixed subset of rows for curves, on the whole shard for results, afresh from saved weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from evomix.corpus.tokens import TokenRows
from evomix.errors import UserError
from evomix.model.transformer import Transformer
from evomix.specs import RunSpec
from evomix.training.device import open_device
from evomix.training.head import row_losses
from evomix.training.inputs import check_corpus, load_mechanism, use_threads

ROWS_PER_BATCH = {"cpu": 64, "cuda": 128}
"""Rows evaluated together; fixed, because sums round differently in batches of another size. A GPU waits for launches.

The gate tries mechanisms in batches of both sizes.
"""


def subset_rows(rows: int, wanted: int) -> npt.NDArray[np.int64]:
    """Return the fixed subset of a shard: `wanted` row numbers spread evenly over it (all rows when it has fewer)."""
    count = min(rows, wanted)
    return np.arange(count, dtype=np.int64) * rows // count


def measure(model: Transformer, rows: TokenRows, indices: npt.NDArray[np.int64], precision: str) -> torch.Tensor:
    """Return the mean loss of every row in `indices` (n,), nats per token, float64 on the CPU, without dropout."""
    weight = model.embedding.weight
    device = weight.device
    size, losses = ROWS_PER_BATCH[device.type], []
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
    with torch.no_grad(), autocast:
        for start in range(0, len(indices), size):
            tokens = torch.from_numpy(rows.read(indices[start : start + size])).to(device)
            losses.append(row_losses(model.hidden(tokens[:, :-1], None), weight, tokens[:, 1:]))
    return torch.cat(losses).cpu()


def summarise(losses: torch.Tensor, rows: TokenRows) -> dict[str, Any]:
    """Return {loss, bits_per_byte, tokens} of row losses; both losses None when any row is not finite."""
    loss = float(losses.mean())
    finite = math.isfinite(loss)
    return {
        "loss": loss if finite else None,
        "bits_per_byte": loss * rows.tokens_per_byte / math.log(2) if finite else None,
        "tokens": len(losses) * rows.sequence_length,
    }


def score(spec: RunSpec, weights: Path, shard: str) -> dict[str, Any]:
    """Measure saved weights on a whole shard: {loss, bits_per_byte, tokens}. Executes the mechanism's file.

    UserError when the weights are missing, damaged or of another model.
    """
    use_threads()
    device = open_device(spec.execution.device, spec.execution.deterministic)
    check_corpus(spec)
    model = Transformer(spec.architecture, load_mechanism(spec), spec.seed)
    try:
        model.load_state_dict(load_file(weights))
    except FileNotFoundError:
        raise UserError(f"missing weights {weights}; run the training that writes them") from None
    except (SafetensorError, OSError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{weights} does not hold this run's weights ({first}); delete it and train again") from None
    rows = TokenRows(Path(spec.corpus.folder), shard, spec.architecture.sequence_length)
    every = np.arange(len(rows), dtype=np.int64)
    return summarise(measure(model.to(device), rows, every, spec.execution.precision), rows)
