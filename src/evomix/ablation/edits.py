"""The difference between two evolve blocks, split into edits that can be taken or left one by one.

Keywords of the declaration that only claim something are no edits: they compute nothing, and follow what the gate
measures. Those that the framework executes (an estimator) are.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Collection
from functools import reduce
from operator import or_
from pathlib import Path

from evomix.ablation import program
from evomix.ablation.dependencies import group
from evomix.ablation.hunks import Hunk, Side, align
from evomix.ablation.names import Names, names
from evomix.settings import Framework

Place = tuple[bool, str]
"""Whether it stands inside the class, and its name."""
_MECHANISMS = Path(__file__).resolve().parents[1] / "mechanisms"
_DECLARATION: Place = (True, program.DECLARATION)


class Difference:
    """What separates a candidate's evolve block from its reference's.

    `hunks` are the smallest pieces; `edits` the numbers of the hunks that belong together, in reading order.
    """

    def __init__(self, reference: str, candidate: str, framework: Framework, most: int) -> None:
        """Compare two mechanism files; beyond `most` edits, the smallest neighbours are merged."""
        self.framework = framework
        old, new = program.read(reference), program.read(candidate)
        executed = _executed(framework, reference, candidate)
        self._claims: dict[Side, dict[str, ast.expr]] = {
            "old": {key: value for key, value in old.declared.items() if key not in executed},
            "new": {key: value for key, value in new.declared.items() if key not in executed},
        }
        self._head = new.head
        places: dict[Place, tuple[program.Lines, program.Lines]] = {}
        for inside, before, after in ((False, old.outside, new.outside), (True, old.inside, new.inside)):
            for name in [*after, *before]:
                places[inside, name] = (before.get(name, ()), after.get(name, ()))
        places[_DECLARATION] = (_choices(old.declared, executed), _choices(new.declared, executed))
        self._segments = {(inside, name): list(align(name, inside, *lines)) for (inside, name), lines in places.items()}
        self.hunks = [item for segments in self._segments.values() for item in segments if isinstance(item, Hunk)]
        self.edits = _limited(group(self.hunks, self._common(), framework), self.hunks, most)

    @property
    def claims_differ(self) -> bool:
        """Whether the two declarations claim different things."""
        old, new = ({key: ast.dump(value) for key, value in self._claims[side].items()} for side in self._claims)
        return old != new

    def source(self, taken: Collection[int], claims: Side = "new") -> str:
        """Return the file in which the edits of these numbers are as in the candidate, the others as in the reference.

        `claims` says whose claims the declaration makes.
        """
        chosen = {id(self.hunks[number]) for edit in taken for number in self.edits[edit]}
        lines: dict[Place, program.Lines] = {}
        for place, segments in self._segments.items():
            sides = [
                item.lines("new" if id(item) in chosen else "old") if isinstance(item, Hunk) else item
                for item in segments
            ]
            lines[place] = tuple(line for side in sides for line in side)
        declared = dict(self._claims[claims])
        for line in lines.pop(_DECLARATION):
            assert isinstance(line, ast.Assign)
            declared[ast.unparse(line.targets[0])] = line.value
        inside, outside = ({name: item for (own, name), item in lines.items() if own == side} for side in (True, False))
        return program.write(program.Block(self._head, inside, outside, declared), self.framework)

    def title(self, edit: int) -> str:
        """Return what an edit adds, changes and removes, in words."""
        hunks = [self.hunks[number] for number in self.edits[edit]]
        telling = [hunk for hunk in hunks if hunk.place != program.OPTIONAL] or hunks
        places = [hunk.place for hunk in telling]
        said: dict[str, dict[str, None]] = {"adds": {}, "changes": {}, "removes": {}}
        for hunk in telling:
            said[_verb(hunk)][_what(hunk, alone=places.count(hunk.place) == 1)] = None
        return "; ".join(f"{verb} {', '.join(what)}" for verb, what in said.items() if what)

    def lines(self, edit: int) -> int:
        """Return how many statements an edit adds and removes."""
        return sum(_size(self.hunks[number]) for number in self.edits[edit])

    def diff(self, edit: int) -> str:
        """Return an edit as a unified difference, from the candidate without it to the candidate."""
        every = set(range(len(self.edits)))
        before, after = self.source(every - {edit}).splitlines(), self.source(every).splitlines()
        return "\n".join(list(difflib.unified_diff(before, after, n=1, lineterm=""))[2:])

    def _common(self) -> Names:
        parts = [
            names(place, item, inside=inside, method=_is_method(segments))
            for (inside, place), segments in self._segments.items()
            for item in segments
            if not isinstance(item, Hunk)
        ]
        return reduce(or_, parts, Names())


def _is_method(segments: list[program.Lines | Hunk]) -> bool:
    first = segments[0]
    return first.method if isinstance(first, Hunk) else isinstance(first[0], ast.FunctionDef)


def _executed(framework: Framework, *blocks: str) -> set[str]:
    """Return the keywords of the declaration that are read when the mechanism runs: `self.declaration.estimator`."""
    contract = (_MECHANISMS / framework / "contract.py").read_text(encoding="utf-8")
    return {
        node.attr
        for text in (contract, *blocks)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == f"self.{program.DECLARATION}"
    }


def _choices(declared: dict[str, ast.expr], executed: set[str]) -> program.Lines:
    """Return the executed keywords of a declaration as lines that assign them."""
    found = [ast.Assign([ast.Name(key, ast.Store())], value) for key, value in declared.items() if key in executed]
    return tuple(ast.fix_missing_locations(line) for line in found)


def _limited(groups: list[list[int]], hunks: list[Hunk], most: int) -> list[list[int]]:
    """Merge the two neighbours that are smallest together until no more than `most` groups are left."""
    sizes = [sum(_size(hunks[number]) for number in members) for members in groups]
    while len(groups) > most:
        at = min(range(len(groups) - 1), key=lambda place: sizes[place] + sizes[place + 1])
        groups[at : at + 2] = [sorted(groups[at] + groups[at + 1])]
        sizes[at : at + 2] = [sizes[at] + sizes[at + 1]]
    return groups


def _size(hunk: Hunk) -> int:
    return sum(ast.unparse(line).count("\n") + 1 for line in (*hunk.old, *hunk.new))


def _verb(hunk: Hunk) -> str:
    first = (hunk.new or hunk.old)[0]
    whole = not hunk.method or hunk.place == "__init__" or isinstance(first, ast.FunctionDef)
    if whole and not hunk.old:
        return "adds"
    return "removes" if whole and not hunk.new else "changes"


def _what(hunk: Hunk, *, alone: bool) -> str:
    """Name an attribute, a declared choice, the variable of a method's only line that changes, or else the place."""
    line = (hunk.new or hunk.old)[0]
    listed = hunk.place in ("__init__", program.DECLARATION)
    if not isinstance(line, ast.Assign) or not (listed or (hunk.method and alone)):
        return hunk.place
    target = ", ".join(ast.unparse(target) for target in line.targets)
    return target if listed else f"{target} in {hunk.place}"
