"""What a proposer is: it answers tasks with drafts, and never executes, checks or stores a candidate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from evomix.evolution.openevolve_adapter.population import Individual


@dataclass(frozen=True)
class Refusal:
    """A draft of this slot that was not accepted."""

    response: str
    reason: str


@dataclass(frozen=True)
class Task:
    """What one slot asks for, the same at every attempt but for `attempt` and `refusals`.

    `parent` is the program to edit, `partner` the other one of a crossover; `fault` says what is wrong with the parent
    of patch `fix`.
    """

    wave: int
    slot: int
    attempt: int
    seed: int
    patch: str
    parent: Individual
    inspirations: list[Individual] = field(default_factory=list)
    partner: Individual | None = None
    top: list[Individual] = field(default_factory=list)
    previous: list[dict[str, Any]] = field(default_factory=list)
    fault: str | None = None
    refusals: list[Refusal] = field(default_factory=list)


@dataclass(frozen=True)
class Draft:
    """A proposer's answer: a program, or the reason why there is none. `halt` ends the whole search (money spent)."""

    source: str | None
    changes: str = ""
    reason: str | None = None
    response: str = ""
    call: dict[str, Any] | None = None
    halt: str | None = None


class Proposer(Protocol):
    """A way to propose candidates."""

    patches: dict[str, float]
    """Patch kinds with their weights."""
    attempts: int
    """Drafts per slot before it is given up."""

    def answer(self, tasks: list[Task]) -> list[Draft]:
        """Answer all open slots of a wave, in the same order; a pure function of the tasks (and recorded responses)."""
        ...
