"""Whole steps captured as CUDA graphs: hundreds of launches become one, where a GPU and the mechanism allow it.

A captured step reads its tokens and coefficients from fixed memory and draws dropout from the run's own generator,
which the graph advances as eager steps would. Ways of taking steps form a ladder: each is tried, compared with eager
steps from the same state, and left for the next when it cannot be built or differs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from evomix.model.transformer import Transformer

if TYPE_CHECKING:
    from evomix.training.engine import Stepper

logger = logging.getLogger(__name__)

WARM_STEPS = 3
TOLERANCE = 1e-4
"""Largest relative difference in loss or gradient norm between captured and eager steps that is taken for rounding."""


class Capturable(Protocol):
    """A stepper whose device work is separate from what the host prepares."""

    device: torch.device
    tier: str
    stacked: bool

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


class Faster:
    """Another way of taking a stepper's steps; the state stays that stepper's own."""

    def __init__(self, inner: Capturable) -> None:
        """Take the stepper whose state it is."""
        self.inner, self.device, self.stacked = inner, inner.device, inner.stacked

    def model_of(self, run: int) -> Transformer:
        """Return a model with the current weights of a run."""
        return self.inner.model_of(run)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return every tensor the future depends on."""
        return self.inner.tensors()

    def load_tensors(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `tensors` returned."""
        self.inner.load_tensors(state)


class Graphed(Faster):
    """A stepper whose steps are replays of one captured graph."""

    def __init__(self, inner: Capturable, tokens: torch.Tensor) -> None:
        """Warm up and capture on tokens of the shape of every step; moves the state of `inner`."""
        super().__init__(inner)
        self.tier = inner.tier.replace("eager", "captured").replace("compiled", "compiled and captured")
        self.tokens, self.coefficients = tokens.clone(), inner.changing(0).clone()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_STEPS):
                inner.compute(self.tokens, self.coefficients)
        torch.cuda.current_stream().wait_stream(side)
        # Captured on the same stream: a node of the last backward pass may still live, and remembers its stream.
        self.graph = torch.cuda.CUDAGraph()
        for generator in inner.generators():
            self.graph.register_generator_state(generator)
        with torch.cuda.graph(self.graph, stream=side):
            self.results = inner.compute(self.tokens, self.coefficients)

    def step(self, step: int, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Replay the captured step; the results are overwritten by the next one."""
        self.tokens.copy_(tokens, non_blocking=True)
        self.coefficients.copy_(self.inner.changing(step), non_blocking=True)
        self.graph.replay()
        return self.results


@dataclass(frozen=True)
class Tier:
    """A faster way of taking the steps of a stepper."""

    name: str
    build: Callable[[], Stepper]
    tolerance: float = TOLERANCE


def tiers(inner: Capturable, tokens: torch.Tensor) -> list[Tier]:
    """Return the faster ways that the device of `inner` has, fastest first; `tokens` have the shape of every step."""
    if inner.device.type == "cpu":
        return []
    return [Tier("a CUDA graph", lambda: Graphed(inner, tokens))]


def climb(ladder: Sequence[Tier], inner: Capturable, tokens: list[torch.Tensor]) -> Stepper:
    """Return the first of `ladder` that can be built and equals `inner` on the steps `tokens`, else `inner` itself.

    The state of `inner` is left as it was.
    """
    before = {key: value.clone() for key, value in inner.tensors().items()}
    for tier in ladder:
        try:
            faster = tier.build()
            reason = compare(faster, inner, tokens, before, tier.tolerance)
        except Exception as error:  # what a mechanism may do during capture is without limit
            reason = _first_cause(error)
            _renew(inner)
        inner.load_tensors(before)
        if reason is None:
            return faster
        logger.warning("steps are not taken by %s (%s)", tier.name, reason)
    return inner


def capture(inner: Capturable, tokens: list[torch.Tensor]) -> Stepper:
    """Return the fastest way of taking the steps of `inner` that is right on the steps `tokens`."""
    return climb(tiers(inner, tokens[0]), inner, tokens)


def _first_cause(error: BaseException) -> str:
    """Return in words what went wrong first: the end of a capture only says that something did."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _renew(inner: Capturable) -> None:
    """Give every generator a fresh inside: a failed capture leaves them waiting for its end, and the next draw raises.

    Their states must be set again.
    """
    if inner.device.type == "cpu":
        return
    for generator in (*inner.generators(), torch.cuda.default_generators[torch.cuda.current_device()]):
        generator.graphsafe_set_state(torch.Generator(inner.device))


def compare(
    first: Stepper,
    second: Stepper,
    tokens: list[torch.Tensor],
    state: dict[str, torch.Tensor],
    tolerance: float = TOLERANCE,
) -> str | None:
    """Do the steps `tokens` both ways from one state; return in words the first difference beyond rounding, or None."""
    results = []
    for stepper in (first, second):
        stepper.load_tensors(state)
        results.append([torch.stack(stepper.step(step, batch)) for step, batch in enumerate(tokens)])
    for step, (ours, theirs) in enumerate(zip(*results, strict=True)):
        if not torch.allclose(ours, theirs, rtol=tolerance, atol=0):
            return f"step {step + 1} differs from the eager one"
    return None
