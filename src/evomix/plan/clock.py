"""How long a step takes before any was run: operations, traffic and launches over what a machine can do.

    seconds = FLOPs / (peak · share) + bytes / bandwidth + operations · latency

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
from evomix.settings import Size


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
    head_chunk: int
    """Logits alive at once, as in evomix.training.head, which would import torch."""
    source: str

    @property
    def roofline(self) -> str:
        """The numbers in words."""
        memory = f"{self.bandwidth / 1e12:g} TB/s" if self.bandwidth > 5e11 else f"{self.bandwidth / 1e9:g} GB/s"
        rate = f"{self.flops / 1e12:g} TFLOP/s" if self.flops > 1e12 else f"{self.flops / 1e9:g} GFLOP/s"
        return (
            f"{self.name}: {rate}, of which {self.share:.0%} are reached, {memory}, {self.latency * 1e6:g} µs per "
            f"operation, {self.start:g} s to start a job that trains ({self.source})"
        )


GPU = Machine(
    "one H100 or H200 in bfloat16", 790e12, 0.4, 4.3e12, 2.5e-6, 2, 15.0, 2**25,
    "peak and bandwidth measured on an H200; share and latency assumed for whole-step graphs, not measured",
)  # fmt: skip
CPU = Machine(
    "one CPU core in float32", 43e9, 1.0, 2e11, 9e-6, 4, 3.0, 2**21,
    "rate and latency fitted to 132 trainings of the demo, half of them within 20 %; bandwidth of a cache assumed",
)  # fmt: skip
JOB_SECONDS = 1.5
"""CPU time to start and end a job that trains nothing."""


def machine(config: Config) -> Machine:
    """Return the machine on which the config trains."""
    return GPU if config.training.device == "cuda" else CPU


def forward_flops(size: Size, vocabulary: int, tokens: int) -> float:
    """Return forward FLOPs per token of the standard."""
    layer = 24 * size.width**2 + 4 * tokens * size.width + 5 * tokens * size.heads
    return size.layers * layer + 2 * size.width * vocabulary


def step_terms(size: Size, vocabulary: int, tokens: int, batch: float, device: Machine) -> tuple[float, float, float]:
    """Return the seconds of one step that arithmetic, traffic and launches take."""
    rows = batch * tokens
    arithmetic = 3 * rows * forward_flops(size, vocabulary, tokens) / (device.flops * device.share)
    numbers = 3 * size.layers * (40 * size.width + 6 * size.heads * tokens) + 6 * vocabulary
    parameters = non_embedding_parameters(size.width, size.layers) + embedding_parameters(size.width, vocabulary)
    traffic = (rows * numbers * device.bytes_per_number + 36 * parameters) / device.bandwidth
    operations = 40 + 200 * size.layers + 25 * ceil(rows * vocabulary / device.head_chunk)
    return arithmetic, traffic, operations * device.latency


def step_seconds(config: Config, group: Trainings) -> tuple[float, float]:
    """Return the seconds of one step of `group`: expected, and the least that arithmetic and traffic allow."""
    size, corpus = config.sizes[group.size], config.corpus
    device = machine(config)
    arithmetic, traffic, launches = step_terms(size, corpus.vocabulary, corpus.sequence_length, group.batch, device)
    return arithmetic + traffic + launches, max(arithmetic * device.share, traffic)
