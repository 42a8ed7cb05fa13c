"""Batch order: which rows a step trains on, a pure function of its arguments, so that a resume needs no state."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from evomix.errors import UserError
from evomix.streams import numpy_stream


@lru_cache(maxsize=24)
def _permutation(rows: int, seed: int, epoch: int) -> npt.NDArray[np.int32]:
    """Return the order of the rows in one epoch (cached: a stacked training reads several seeds in turn)."""
    order = numpy_stream(seed, "batches", rows, epoch).permutation(np.arange(rows, dtype=np.int32))
    order.flags.writeable = False
    return order


def batch_indices(rows: int, batch_size: int, seed: int, step: int) -> npt.NDArray[np.int64]:
    """Return the row numbers (batch_size,) of step `step` (from 0).

    Epochs follow one another without a gap: each is a fresh permutation, so every row comes once per epoch, whatever
    the batch size; a batch may hold the end of one epoch and the beginning of the next. Raises UserError when the
    shard has fewer rows than one batch.
    """
    if rows < batch_size:
        raise UserError(
            f"the training shard has {rows} rows, fewer than one batch of {batch_size}; give the corpus more text or "
            "choose a smaller batch size"
        )
    epoch, offset = divmod(step * batch_size, rows)
    head = _permutation(rows, seed, epoch)[offset : offset + batch_size]
    if len(head) < batch_size:
        head = np.concatenate([head, _permutation(rows, seed, epoch + 1)[: batch_size - len(head)]])
    return head.astype(np.int64)
