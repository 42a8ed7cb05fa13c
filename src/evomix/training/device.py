"""The device of a run: opened, told to compute the same bits every time, and fed without waiting for it."""

from __future__ import annotations

import ctypes
import os

import torch

from evomix.errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Keys of mallopt(3)."""


def open_device(name: str, deterministic: bool) -> torch.device:
    """Return the torch device; UserError when a GPU is demanded and there is none.

    On a GPU `deterministic` makes torch prefer operations that give the same bits every time. Where there is none for
    what a mechanism does, torch warns and goes on: a variant must not fail for it.
    """
    if name == "cpu":
        keep_memory()
        return torch.device(name)
    if not torch.cuda.is_available():
        raise UserError(
            "training.device is `cuda` but this machine has no usable GPU; set it to `cpu` or use a GPU job"
        )
    if deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when cuBLAS opens, which is later
        # What `torch.use_deterministic_algorithms` does, without telling the compiler too, which it would import: a
        # second in every process, and a folder for caches.
        torch._C._set_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return torch.device(name)


def keep_memory() -> None:
    """Tell glibc to keep freed memory: every step needs the same blocks again, and the kernel would zero each of them.

    Blocks up to 32 MB (glibc's limit) then come from the heap, which is not trimmed. Saves up to a quarter of the CPU
    time of stacked steps.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_MMAP_THRESHOLD, 2**25)


def send(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return CPU values on the device without waiting for it: a plain copy would wait until all queued steps are done.

    Only pinned memory is copied asynchronously; torch keeps it until the copy has happened.
    """
    return values if device.type == "cpu" else values.pin_memory().to(device, non_blocking=True)
