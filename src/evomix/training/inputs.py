"""What a run reads, checked before the first step: mechanism file, token shards; and its batches."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from evomix.artifacts import digest_file, read_json
from evomix.corpus.batches import batch_indices
from evomix.corpus.tokens import TokenRows
from evomix.errors import UserError
from evomix.mechanisms import library
from evomix.mechanisms.contract import Mechanism
from evomix.specs import RunSpec
from evomix.training.device import send
from evomix.training.groups import threads_of_a_run

logger = logging.getLogger(__name__)


def use_threads() -> int:
    """Give torch the CPU threads of one training."""
    threads = threads_of_a_run()
    torch.set_num_threads(threads)
    return threads


def load_mechanism(spec: RunSpec) -> type[Mechanism]:
    """Return the mechanism class of a run after comparing its file's digest with the spec (executes the file)."""
    path = Path(spec.mechanism.path)
    if not path.is_file():
        raise UserError(f"missing mechanism {path}; run the rule that makes it")
    if digest_file(path) != spec.mechanism.digest:
        raise UserError(f"mechanism {path} has changed since the spec was written; run the workflow again")
    return library.load(path)


def check_corpus(spec: RunSpec) -> None:
    """Raise UserError when the corpus is not the spec's or its vocabulary is not the model's."""
    path = Path(spec.corpus.folder) / "stats.json"
    vocabulary = read_json(path, "corpus")["vocabulary"]
    if digest_file(path) != spec.corpus.digest:
        raise UserError(f"corpus {path} has changed since the spec was written; run the workflow again")
    if vocabulary != spec.architecture.vocabulary:
        raise UserError(
            f"corpus {path} has {vocabulary} tokens in its vocabulary, the spec's model has "
            f"{spec.architecture.vocabulary}; set corpus.vocabulary and run the workflow again"
        )


@lru_cache(maxsize=1)
def _resident(path: Path, device: torch.device) -> torch.Tensor:
    """Return the tokens of a shard's file on the device, the same tensor for all runs of a process.

    torch has few operations on uint16; the bits travel as int16.
    """
    return torch.from_numpy(np.fromfile(path, dtype="<i2")).to(device)


def resident_rows(rows: TokenRows, device: torch.device) -> torch.Tensor:
    """Return all rows (n, width) of a shard as a view of its tokens on the device, two bytes per token."""
    return _resident(rows.path, device).as_strided((len(rows), rows.width), (rows.stride, 1))


def cut(windows: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Return rows `indices` (B,) of what `resident_rows` returned, as int64 (B, width)."""
    return windows[indices].to(torch.int64) & 0xFFFF


class Batches:
    """Training batches of one run, a pure function of the step.

    On the CPU rows come from the memory map, whose pages all jobs share. On a GPU the whole stream is put on the device
    once for all runs of a process and rows are cut out there.
    """

    def __init__(self, rows: TokenRows, batch_size: int, seed: int, device: torch.device) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.device = device
        self._windows = None if device.type == "cpu" else resident_rows(rows, device)

    def read(self, step: int) -> torch.Tensor:
        """Return the rows (B, width) of a step as int64 on the device."""
        indices = batch_indices(len(self.rows), self.batch_size, self.seed, step)
        if self._windows is None:
            return torch.from_numpy(self.rows.read(indices))
        return cut(self._windows, send(torch.from_numpy(indices), self.device))
