"""What a run reads, checked before the first step: device, mechanism file, token shards; and its batches."""

from __future__ import annotations

import ctypes
import logging
import os
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

logger = logging.getLogger(__name__)

THREADS_VARIABLE = "EVOMIX_THREADS"

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Keys of mallopt(3)."""


def use_threads() -> int:
    """Set torch's CPU threads from EVOMIX_THREADS (default 1: tiny models gain nothing, and jobs share cores)."""
    text = os.environ.get(THREADS_VARIABLE, "1")
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"environment variable {THREADS_VARIABLE} is {text!r}; give a number of threads, 1 or more")
    torch.set_num_threads(int(text))
    return int(text)


def keep_memory() -> None:
    """Tell glibc to keep freed memory: every step needs the same blocks again, and the kernel would zero each of them.

    Blocks up to 32 MB (glibc's limit) then come from the heap, which is not trimmed. Saves up to a quarter of the CPU
    time of stacked steps.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_MMAP_THRESHOLD, 2**25)


def open_device(name: str) -> torch.device:
    """Return the torch device; UserError when a GPU is demanded and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "training.device is `cuda` but this machine has no usable GPU; set it to `cpu` or use a GPU job"
        )
    return torch.device(name)


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


class Batches:
    """Training batches of one run, a pure function of the step.

    On the CPU rows come from the memory map, whose pages all jobs share. On a GPU the whole stream is put on the device
    once (two bytes per token) and rows are cut out there.
    """

    def __init__(self, rows: TokenRows, batch_size: int, seed: int, device: torch.device) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.device = device
        self._windows: torch.Tensor | None = None
        if device.type != "cpu":
            # torch has few operations on uint16; the bits travel as int16.
            stream = torch.from_numpy(np.asarray(rows.stream).view(np.int16).copy()).to(device)
            self._windows = stream.as_strided((len(rows), rows.width), (rows.stride, 1))

    def read(self, step: int) -> torch.Tensor:
        """Return the rows (B, width) of a step as int64 on the device."""
        indices = batch_indices(len(self.rows), self.batch_size, self.seed, step)
        if self._windows is None:
            return torch.from_numpy(self.rows.read(indices))
        chosen = torch.from_numpy(indices).to(self.device, non_blocking=True)
        return self.gather(chosen)

    def gather(self, indices: torch.Tensor) -> torch.Tensor:
        """Return rows `indices` (B,) of the resident stream as int64 (B, width)."""
        if self._windows is None:
            return torch.from_numpy(self.rows.read(indices.numpy()))
        return self._windows[indices].to(torch.int64) & 0xFFFF
