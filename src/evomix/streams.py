"""Named random streams: every draw comes from a stream derived from a seed and names, never from global state."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def derive(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that is a pure function of `seed` and `names` (SHA-256 of their joined text)."""
    text = "\x1f".join([str(int(seed)), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return a NumPy generator (Philox) for the stream `names` of `seed`."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=derive(seed, *names)))


def torch_stream(seed: int, *names: str | int, device: str = "cpu") -> torch.Generator:
    """Return a torch generator on `device` for the stream `names` of `seed`."""
    import torch

    return torch.Generator(device=device).manual_seed(derive(seed, *names))
