"""Remote mixing: tensors over pipes between a trusted model and the sandboxed process that holds the candidate.

The candidate's side sees the inputs of its own layers only: never tokens, targets, the head or the loss. What comes
back is checked for shape and type and is nothing but numbers; no object of the candidate reaches the trusted side.
"""

from __future__ import annotations

import json
from typing import BinaryIO, ClassVar

import torch
from torch import Tensor

from evomix.mechanisms.contract import Mechanism

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
_LONGEST_HEADER = 512


class RemoteError(Exception):
    """The other side sent something that is not a tensor of the right shape."""


def send(stream: BinaryIO, layer: int, *tensors: Tensor) -> None:
    """Write a header line (layer, types, shapes) and the tensors' bytes."""
    header = {"layer": layer, "tensors": [[str(z.dtype).removeprefix("torch."), list(z.shape)] for z in tensors]}
    stream.write(json.dumps(header).encode() + b"\n")
    for tensor in tensors:
        stream.write(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    stream.flush()


def receive(stream: BinaryIO, most: int) -> tuple[int, list[Tensor]]:
    """Read what `send` wrote, at most `most` numbers per tensor; EOFError at the end, RemoteError for anything else."""
    line = stream.readline(_LONGEST_HEADER)
    if not line:
        raise EOFError
    try:
        header = json.loads(line)
        layer, described = int(header["layer"]), header["tensors"]
        shapes = [[int(size) for size in shape] for _, shape in described]
        types = [_TYPES[name] for name, _ in described]
    except (ValueError, KeyError, TypeError):
        raise RemoteError("not a header") from None
    tensors = []
    for kind, shape in zip(types, shapes, strict=True):
        count = torch.Size(shape).numel() if all(size >= 0 for size in shape) else -1
        if not 0 < count <= most:
            raise RemoteError(f"a tensor of shape {shape}")
        data = bytearray(count * kind.itemsize)
        if stream.readinto(data) != len(data):  # type: ignore[attr-defined]
            raise EOFError
        tensors.append(torch.frombuffer(data, dtype=kind).reshape(shape))
    return layer, tensors


class Link:
    """The trusted side's ends of the pipes, set for the length of one conversation."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self.incoming, self.outgoing = incoming, outgoing

    def mix(self, layer: int, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
        """Return y_BHTP from the other side; RemoteError when it is not of v's shape."""
        send(self.outgoing, layer, x_BTD, v_BHTP)
        answered, tensors = receive(self.incoming, v_BHTP.numel())
        if answered != layer or len(tensors) != 1 or tensors[0].shape != v_BHTP.shape:
            raise RemoteError("an answer of another shape")
        return tensors[0].to(v_BHTP.device)


class RemoteMechanism(Mechanism):
    """Stands in the trusted model where a candidate would: no parameters, forwards its inputs to the link."""

    framework: ClassVar[str] = "remote"

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.layer = -1
        self.link: Link | None = None

    def forward(self, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
        """Return y_BHTP as the candidate computes it in its own process."""
        if self.link is None:
            raise RuntimeError("the mechanism is not linked to a mixing process")
        return self.link.mix(self.layer, x_BTD, v_BHTP)
