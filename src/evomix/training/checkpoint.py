"""Checkpoints that survive a kill at any moment: written beside, synced, renamed; checked on reading; never unpickled.

One checkpoint is one safetensors file: all tensors (weights, buffers, moments, generator states) and, in its metadata,
the rest of the state as JSON with a SHA-256 over everything. The newest two are kept, so a damaged file costs at most
one interval.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from evomix.artifacts import atomic_path
from evomix.errors import UserError

logger = logging.getLogger(__name__)

_KEPT = 2
_PATTERN = "step_*.safetensors"


class _DamagedError(Exception):
    """A checkpoint file is truncated, corrupt or not a checkpoint; the text says what is wrong."""


def _digest(tensors: dict[str, torch.Tensor], state: str) -> str:
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files(folder: Path) -> list[Path]:
    """Return checkpoint files, newest first."""
    return sorted(folder.glob(_PATTERN), reverse=True)


def save(folder: Path, step: int, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Write the checkpoint of `step` (the number of finished steps) and drop all but the newest two."""
    text = json.dumps(state)
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    path = folder / f"step_{step:09d}.safetensors"
    with atomic_path(path) as temporary:
        save_file(copies, temporary, metadata={"state": text, "sha256": _digest(copies, text)})
    _sync_folder(folder)
    for old in _files(folder)[_KEPT:]:
        old.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise _DamagedError(str(error)) from None
    if "state" not in metadata or _digest(tensors, metadata["state"]) != metadata.get("sha256"):
        raise _DamagedError("its digest does not match its content")
    return tensors, json.loads(metadata["state"])


def load(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Return tensors and state of the newest sound checkpoint, or None when there is no checkpoint at all.

    A damaged file is reported in one logged sentence and the one before it is used; UserError when all are damaged.
    """
    files = _files(folder)
    for path in files:
        try:
            return _read(path)
        except _DamagedError as error:
            logger.warning("checkpoint %s is damaged (%s); trying the one before it", path, error)
    if files:
        raise UserError(f"no readable checkpoint in {folder}; delete the folder to start this run from the beginning")
    return None


def sweep(folder: Path) -> None:
    """Remove half-written files that a killed writer left behind: all hidden ones (safetensors adds its own)."""
    for path in folder.glob(".*"):
        if path.is_file():
            path.unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Remove all checkpoints and half-written files of a killed writer, and the folder if nothing else is in it."""
    for path in _files(folder):
        path.unlink(missing_ok=True)
    sweep(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
