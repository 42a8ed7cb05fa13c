"""The code difference standard → evolved as highlighted HTML.

Candidate code is hostile text: every character of it passes through `markupsafe.escape`, and Pygments only decides
which of our own class names a token gets.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape
from pygments.lexers import PythonLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, String

CONTEXT = 3
"""Unchanged lines shown around a change."""

_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
_CLASSES = (
    (Comment, "c"),
    (String, "s"),
    (Keyword, "k"),
    (Number, "n"),
    (Operator.Word, "k"),
    (Name.Function, "f"),
    (Name.Class, "f"),
    (Name.Decorator, "f"),
    (Name.Builtin, "b"),
)


@dataclass(frozen=True)
class Line:
    """One row of the difference: line numbers in the old and the new file (None where absent) and highlighted code."""

    kind: Literal["same", "removed", "added", "skipped"]
    old: int | None
    new: int | None
    code: Markup


def plain(source: str) -> str:
    """Return `source` with `\\n` line ends and without a final one, and with every invisible or direction-changing
    character spelled out, so that what is shown is what would run (CVE-2021-42574)."""
    lines = source.replace("\r\n", "\n").replace("\r", "\n").expandtabs(4).removesuffix("\n")
    return "".join(
        f"⟨U+{ord(sign):04X}⟩" if unicodedata.category(sign) in _INVISIBLE and sign != "\n" else sign for sign in lines
    )


def evolvable(source: str) -> str:
    """Return `source` up to the end of its evolve block: what follows (a member's ground truth) cannot evolve."""
    before, mark, _ = source.partition("\n# EVOLVE-BLOCK-END")
    return before + mark


def _class_of(kind: object) -> str:
    return next((name for token, name in _CLASSES if kind in token), "")


def highlight(source: str) -> list[Markup]:
    """Return `source` as one piece of safe HTML per line, tokens wrapped in <span class=…> of this module's classes."""
    lines: list[Markup] = [Markup()]
    lexer = PythonLexer(stripnl=False, ensurenl=False)
    for kind, text in lexer.get_tokens(source):
        name = _class_of(kind)
        for index, part in enumerate(text.split("\n")):
            if index:
                lines.append(Markup())
            if part:
                piece = escape(part)
                lines[-1] += Markup('<span class="{}">{}</span>').format(name, piece) if name else piece
    return lines


def _rows(old: str, new: str) -> Iterator[Line]:
    before, after = highlight(old), highlight(new)
    matcher = difflib.SequenceMatcher(a=old.split("\n"), b=new.split("\n"), autojunk=False)
    position = 0
    for group in matcher.get_grouped_opcodes(CONTEXT):
        if group[0][1] > position:
            yield Line("skipped", None, None, Markup("{} unchanged lines").format(group[0][1] - position))
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                for i, j in zip(range(i1, i2), range(j1, j2), strict=True):
                    yield Line("same", i + 1, j + 1, after[j])
                continue
            for i in range(i1, i2):
                yield Line("removed", i + 1, None, before[i])
            for j in range(j1, j2):
                yield Line("added", None, j + 1, after[j])
        position = group[-1][2]
    if position < len(before):
        yield Line("skipped", None, None, Markup("{} unchanged lines").format(len(before) - position))


def difference(old: str, new: str) -> list[Line]:
    """Return the lines of a unified difference with `CONTEXT` lines around changes; empty when the texts are equal."""
    old, new = plain(old), plain(new)
    return [] if old == new else list(_rows(old, new))


def from_unified(text: str) -> list[Line]:
    """Return the lines of a unified difference without its heading, numbered as its hunks say."""
    found: list[Line] = []
    old = new = 0
    for line in plain(text).split("\n"):
        place = re.match(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@", line)
        if place:
            if found:
                found.append(Line("skipped", None, None, Markup("…")))
            old, new = int(place.group(1)), int(place.group(2))
            continue
        code = highlight(line[1:])[0]
        if line.startswith("-"):
            found.append(Line("removed", old, None, code))
        elif line.startswith("+"):
            found.append(Line("added", None, new, code))
        else:
            found.append(Line("same", old, new, code))
        old, new = old + (not line.startswith("+")), new + (not line.startswith("-"))
    return found
