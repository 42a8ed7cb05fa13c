"""The smallest pieces of a difference: changed, added or removed lines of one place, found by `difflib`."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from evomix.ablation.names import Names, names
from evomix.ablation.program import Lines

Side = Literal["old", "new"]


@dataclass(frozen=True, eq=False)
class Hunk:
    """Some lines of one place before and after; either may be empty."""

    place: str
    inside: bool
    """Whether the place stands inside the class."""
    method: bool
    """Whether it is a method or a function, and not a constant."""
    old: Lines
    new: Lines

    def lines(self, side: Side) -> Lines:
        """Return the lines of one side."""
        return self.old if side == "old" else self.new

    def names(self, side: Side) -> Names:
        """Return what one side binds and reads."""
        return names(self.place, self.lines(side), inside=self.inside, method=self.method)


def align(place: str, inside: bool, old: Lines, new: Lines) -> Iterator[Lines | Hunk]:
    """Yield the lines that both sides of a place have, and the hunks between them, in order.

    Inside a changed stretch, a line is paired with one that assigns the same thing; what stays alone is a hunk of its
    own, so that two lines added side by side can be taken apart. A method that one side lacks is one hunk.
    """
    method = any(isinstance(line, ast.FunctionDef) for line in (*old, *new))
    if method and not (old and new):
        yield Hunk(place, inside, method, old, new)
        return
    for same, before, after in _stretches(old, new, ast.unparse):
        if same:
            yield after
            continue
        for paired, left, right in _stretches(before, after, _subject):
            pairs = [((one,), (other,)) for one, other in zip(left, right, strict=False)] if paired else []
            alone = [] if paired else [*(((line,), ()) for line in left), *(((), (line,)) for line in right)]
            yield from (Hunk(place, inside, method, *sides) for sides in (*pairs, *alone))


def _stretches(old: Lines, new: Lines, key: Callable[[ast.stmt], str]) -> Iterator[tuple[bool, Lines, Lines]]:
    """Yield stretches of lines with whether their keys are equal."""
    matcher = SequenceMatcher(None, [key(line) for line in old], [key(line) for line in new], autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        yield tag == "equal", old[i1:i2], new[j1:j2]


def _subject(line: ast.stmt) -> str:
    """Return what a line is about: what it assigns or calls, else its kind (`Return`, a method's signature)."""
    kind = type(line).__name__
    if isinstance(line, ast.Assign):
        return f"{kind} {', '.join(ast.unparse(target) for target in line.targets)}"
    if isinstance(line, ast.AugAssign | ast.AnnAssign):
        return f"{kind} {ast.unparse(line.target)}"
    if isinstance(line, ast.Expr) and isinstance(line.value, ast.Call):
        return f"{kind} {ast.unparse(line.value.func)}"
    return kind
