"""The offline proposer: a random search over meaningful edits of a mechanism, the study's control without guidance.

A task's parent is edited one to three times by edits of its framework (grammar/), or crossed with another program of
its island: a part of that one takes the place of the parent's, with the parameters it needs. Nothing is executed.
"""

from __future__ import annotations

from types import ModuleType

from evomix.evolution.grammar import coefficient_dynamics, matrix_mixer, test_time_regression
from evomix.evolution.grammar.crossover import cross
from evomix.evolution.grammar.editor import Program
from evomix.evolution.grammar.edits import drawer
from evomix.evolution.proposers.base import Draft, Task
from evomix.streams import numpy_stream

_RULES: dict[str, ModuleType] = {
    "coefficient_dynamics": coefficient_dynamics,
    "test_time_regression": test_time_regression,
    "matrix_mixer": matrix_mixer,
}
EDITS = {1: 0.55, 2: 0.3, 3: 0.15}
"""Number of edits of one proposal with its probability."""

PLAIN_CROSSOVERS = 3
"""Attempts at a crossover alone; later ones also edit, since two programs have few different crossings."""


class Grammar:
    """Random edits of one framework's programs."""

    patches = {"edit": 0.8, "crossover": 0.2}  # noqa: RUF012 (a constant of the protocol)
    attempts = 30

    def __init__(self, framework: str) -> None:
        self._rules = _RULES[framework]
        self._edits = self._rules.edits()

    def answer(self, tasks: list[Task]) -> list[Draft]:
        """Answer each task from its own stream."""
        return [self._answer(task) for task in tasks]

    def _answer(self, task: Task) -> Draft:
        stream = numpy_stream(task.seed, "grammar", task.attempt)
        draw = drawer(stream)
        try:
            program = Program(task.parent.source)
            if task.partner is not None:
                change = cross(program, Program(task.partner.source), self._rules.COMPONENTS, draw)
                changes = [change] if change else []
            else:
                changes = []
            alone = task.partner is not None and task.attempt < PLAIN_CROSSOVERS
            wanted = 0 if changes and alone else int(stream.choice(list(EDITS), p=list(EDITS.values())))
            weights = [edit.weight for edit in self._edits]
            for _ in range(wanted):
                edit = self._edits[int(stream.choice(len(weights), p=[w / sum(weights) for w in weights]))]
                change = edit.apply(program, draw)
                changes += [change] if change else []
        except ValueError as error:
            return Draft(None, reason=f"the parent cannot be edited: {error}")
        if not changes:
            return Draft(None, reason="no edit applies to the parent")
        text = "; ".join(changes)
        program.note(text)
        return Draft(program.source(), changes=text)
