"""How long a step takes before any was run: operations, traffic and launches over what a machine can do.

    seconds = FLOPs / (peak · share · d / (d + half width)) + bytes / bandwidth + operations · latency

The three terms add, as if nothing overlapped. A step costs three forward passes (backward twice the forward). FLOPs
are the standard's, counted as model.flops and the framework's softmax member count them: 24 d² + 4 T d + 5 T h per
layer, 2 d V for the head. Bytes: activations of a block written and read about 40 times a token and the T scores of
every head 6 times, three passes; logits 6 times; 36 bytes per parameter for AdamW. Operations as dispatched: 40, 200 a
layer, 25 a chunk of the head (counted on the engine).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from evomix.config import Config
from evomix.model.sizes import embedding_parameters, non_embedding_parameters
from evomix.plan.work import Trainings
from evomix.specs import Architecture


@dataclass(frozen=True)
class Machine:
    """What a device can do; `source` says where the numbers come from."""

    name: str
    flops: float
    share: float
    bandwidth: float
    latency: float
    bytes_per_number: int
    start: float
    half_width: int
    """Model width d at which products of matrices reach half the share: narrow ones starve the arithmetic."""
    head_chunk: int
    """Logits alive at once, as in evomix.training.head, which would import torch."""
    source: str

    @property
    def roofline(self) -> str:
        """The numbers in words."""
        memory = f"{self.bandwidth / 1e12:g} TB/s" if self.bandwidth > 5e11 else f"{self.bandwidth / 1e9:g} GB/s"
        rate = f"{self.flops / 1e12:g} TFLOP/s" if self.flops > 1e12 else f"{self.flops / 1e9:g} GFLOP/s"
        reached = f"d / (d + {self.half_width}) at width d" if self.half_width else f"{self.share:.0%}"
        return (
            f"{self.name}: {rate}, of which {reached} are reached, {memory}, {self.latency * 1e6:g} µs per "
            f"operation, {self.start:g} s to start a job that trains ({self.source})"
        )


GPU = Machine(
    "one H100 or H200 in bfloat16", 790e12, 0.15, 4.3e12, 3e-6, 2, 15.0, 0, 2**25,
    "peak and bandwidth measured on an H200; share and latency fitted within 11% to captured steps of five sizes; "
    "compiled ones are faster",
)  # fmt: skip
CPU = Machine(
    "one CPU core in float32", 400e9, 1.0, 2e11, 5e-6, 4, 3.0, 324, 2**21,
    "rates and latency fitted to CPU-seconds of single steps from width 16 to 96; bandwidth of a cache assumed",
)  # fmt: skip
JOB_SECONDS = 1.9
"""CPU time of a job that trains nothing: what a whole demo took (766 s), less its trainings, over 211 such jobs."""


def machine(config: Config) -> Machine:
    """Return the machine on which the config trains."""
    return GPU if config.training.device == "cuda" else CPU


def forward_flops(shell: Architecture) -> float:
    """Return forward FLOPs per token of the standard."""
    width, tokens = shell.width, shell.sequence_length
    layer = 24 * width**2 + 4 * tokens * width + 5 * tokens * shell.heads
    return shell.layers * layer + 2 * width * shell.vocabulary


def step_terms(shell: Architecture, batch: float, device: Machine) -> tuple[float, float, float]:
    """Return the seconds of one step that arithmetic, traffic and launches take."""
    rows, vocabulary = batch * shell.sequence_length, shell.vocabulary
    reached = device.flops * device.share * shell.width / (shell.width + device.half_width)
    arithmetic = 3 * rows * forward_flops(shell) / reached
    numbers = 3 * shell.layers * (40 * shell.width + 6 * shell.heads * shell.sequence_length) + 6 * vocabulary
    parameters = non_embedding_parameters(shell.width, shell.layers) + embedding_parameters(shell.width, vocabulary)
    traffic = (rows * numbers * device.bytes_per_number + 36 * parameters) / device.bandwidth
    operations = 40 + 200 * shell.layers + 25 * ceil(rows * vocabulary / device.head_chunk)
    return arithmetic, traffic, operations * device.latency


def step_seconds(group: Trainings, device: Machine) -> tuple[float, float]:
    """Return the seconds of one step of `group`: expected, and the least that arithmetic and traffic allow."""
    arithmetic, traffic, launches = step_terms(group.shell, group.batch, device)
    return arithmetic + traffic + launches, max(arithmetic * device.share, traffic)
