"""Which hunks belong together: those of which one cannot be taken or left without the other."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_

from evomix.ablation.hunks import Hunk, Side
from evomix.ablation.names import Names
from evomix.gate.frame import frame
from evomix.settings import Framework

Kind = tuple[str, type[ast.stmt]]
COUPLED: dict[Framework, tuple[tuple[Kind, Kind], ...]] = {
    "coefficient_dynamics": (),
    "test_time_regression": (
        (("declaration", ast.Assign), ("penalty", ast.FunctionDef)),
        (("declaration", ast.Assign), ("displacement", ast.FunctionDef)),
    ),
    "matrix_mixer": ((("generators", ast.Return), ("matrix", ast.FunctionDef)),),
}
"""Places, with a kind of line, that the framework's contract ties: what is returned and what receives it, an estimator
and what it alone needs."""


_SIDES: tuple[tuple[Side, Side], ...] = (("old", "new"), ("new", "old"))


def group(hunks: Sequence[Hunk], common: Names, framework: Framework) -> list[list[int]]:
    """Return the numbers of the hunks that form one edit each, in reading order.

    Every edit can be left out alone and taken alone without a name that is read but not bound. `common` are the names
    of the lines that both programs have.
    """
    sides = {side: [hunk.names(side) for hunk in hunks] for side, _ in _SIDES}
    provided = {f"self.{name}" for name in frame(framework).inherited}
    known = _all([common, *sides["old"], *sides["new"]]).binds - provided
    groups = [{number} for number in range(len(hunks))]
    for one, other in COUPLED[framework]:
        ends = [{number for number, hunk in enumerate(hunks) if _is(hunk, kind)} for kind in (one, other)]
        if all(ends):
            groups = _merge(groups, ends[0] | ends[1])
    while (tied := _tied(groups, sides, common, known)) is not None:
        groups = _merge(groups, tied)
    return sorted(sorted(members) for members in groups)


def _is(hunk: Hunk, kind: Kind) -> bool:
    return hunk.place == kind[0] and any(isinstance(line, kind[1]) for line in (*hunk.old, *hunk.new))


def _all(found: Iterable[Names]) -> Names:
    return reduce(or_, found, Names())


def _merge(groups: list[set[int]], members: set[int]) -> list[set[int]]:
    touched = [item for item in groups if item & members]
    return [item for item in groups if item not in touched] + [set().union(*touched)]


def _tied(
    groups: list[set[int]], sides: dict[Side, list[Names]], common: Names, known: frozenset[str]
) -> set[int] | None:
    """Return hunks of different groups that depend on each other, or None when every group stands alone.

    One group on its `own` side and all others on the other leaves a name unbound: the group belongs with those others
    that read the name, and where none of them does (it reads the name itself), with those whose own side binds it.
    """
    for members in groups:
        rest = [number for number in range(len(sides["old"])) if number not in members]
        for own, others in _SIDES:
            program = [common, *(sides[own][number] for number in members), *(sides[others][number] for number in rest)]
            for name in sorted(_all(program).unbound(known)):
                partners = {number for number in rest if sides[others][number].mentions(name)}
                partners = partners or {number for number in rest if name in sides[own][number].binds}
                if partners:
                    return members | partners
    return None
