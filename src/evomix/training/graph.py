"""Whole steps captured as CUDA graphs: hundreds of launches become one, where a GPU and the mechanism allow it.

A captured step reads its tokens and coefficients from fixed memory and draws dropout from the run's own generator,
which the graph advances as eager steps would. Before it is used, captured steps are compared with eager ones from the
same state; a mechanism that cannot be captured, or that differs, is trained eagerly. This tier has not yet run on a
GPU: the comparison is what stands between it and a wrong result.
"""

from __future__ import annotations

import logging
from typing import Protocol

import torch

from evomix.model.transformer import Transformer

logger = logging.getLogger(__name__)

WARM_STEPS = 3
TOLERANCE = 1e-4
"""Largest relative difference in loss or gradient norm between captured and eager steps that is taken for rounding."""


class Capturable(Protocol):
    """A stepper whose device work is separate from what the host prepares."""

    device: torch.device

    def changing(self, step: int) -> torch.Tensor:
        """Return the coefficients of a step on the device."""

    def compute(self, tokens: torch.Tensor, changing: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Do one step; device work only."""

    def step(self, step: int, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Do one step."""

    def generators(self) -> list[torch.Generator]:
        """Return the generators that a step draws from."""

    def model_of(self, run: int) -> Transformer:
        """Return a model with the current weights of a run."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return every tensor the future depends on."""

    def load_tensors(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `tensors` returned."""


class Graphed:
    """A stepper whose steps are replays of one captured graph."""

    def __init__(self, inner: Capturable, tokens: torch.Tensor) -> None:
        """Warm up and capture on tokens of the shape of every step; moves the state of `inner`."""
        self.inner, self.device = inner, inner.device
        self.tokens, self.coefficients = tokens.clone(), inner.changing(0).clone()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_STEPS):
                inner.compute(self.tokens, self.coefficients)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        for generator in inner.generators():
            self.graph.register_generator_state(generator)
        with torch.cuda.graph(self.graph):
            self.results = inner.compute(self.tokens, self.coefficients)

    def step(self, step: int, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Replay the captured step; the results are overwritten by the next one."""
        self.tokens.copy_(tokens, non_blocking=True)
        self.coefficients.copy_(self.inner.changing(step), non_blocking=True)
        self.graph.replay()
        return self.results

    def model_of(self, run: int) -> Transformer:
        """Return a model with the current weights of a run."""
        return self.inner.model_of(run)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return every tensor the future depends on."""
        return self.inner.tensors()

    def load_tensors(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `tensors` returned."""
        self.inner.load_tensors(state)


def capture(inner: Capturable, tokens: list[torch.Tensor]) -> Graphed | Capturable:
    """Return `inner` as a captured graph if it is on a GPU and equal there on the steps `tokens`, else `inner` itself.

    Its state is left as it was.
    """
    if inner.device.type != "cuda":
        return inner
    before = {key: value.clone() for key, value in inner.tensors().items()}
    chosen: Graphed | Capturable = inner
    try:
        graphed = Graphed(inner, tokens[0])
        reason = compare(graphed, inner, tokens, before)
    except Exception as error:  # what a mechanism may do during capture is without limit
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    else:
        chosen = graphed if reason is None else inner
    if reason is not None:
        logger.warning("steps are not captured as a CUDA graph (%s); training eagerly", reason)
    inner.load_tensors(before)
    return chosen


def compare(
    first: Graphed | Capturable, second: Capturable, tokens: list[torch.Tensor], state: dict[str, torch.Tensor]
) -> str | None:
    """Do the steps `tokens` both ways from one state; return in words the first difference beyond rounding, or None."""
    results = []
    for stepper in (first, second):
        stepper.load_tensors(state)
        results.append([torch.stack(stepper.step(step, batch)) for step, batch in enumerate(tokens)])
    for step, (ours, theirs) in enumerate(zip(*results, strict=True)):
        if not torch.allclose(ours, theirs, rtol=TOLERANCE, atol=0):
            return f"step {step + 1} differs from the eager one"
    return None
