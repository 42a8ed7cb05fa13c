"""Split what evolved into edits, and freeze a gated mechanism without each of them (and with each alone).

An ablated mechanism is a file with the gate's record beside it, like any other variant. One that the gate refuses is
reported with the reason: that edit cannot be separated from the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from evomix.ablation import program
from evomix.ablation.edits import Difference
from evomix.ablation.hunks import Side
from evomix.artifacts import write_json, write_text
from evomix.evolution.evaluate import Gate, refusal
from evomix.evolution.identity import identity
from evomix.settings import Framework

FAST_FORMS = ("mix", "solve", "multiply")
"""Optional methods that state the whole function again, for speed: one written for all edits is wrong without one."""


def split(
    reference: Path,
    candidate: Path,
    framework: Framework,
    folder: Path,
    output: Path,
    *,
    most: int,
    add_alone: bool,
    gate: Gate,
) -> None:
    """Write edits.json (`output`), and into `folder` {without,only}_{edit}.py with the gate's record beside each.

    `without_3` is the candidate with edit 3 as in the reference; `only_3`, made with `add_alone`, is the reference with
    edit 3 as in the candidate. Beyond `most` edits, the smallest neighbours are merged.
    """
    old, new = (path.read_text(encoding="utf-8") for path in (reference, candidate))
    difference = Difference(old, new, framework, most)
    every = frozenset(range(len(difference.edits)))
    folder.mkdir(parents=True, exist_ok=True)
    records = [
        {
            "index": edit + 1,
            "title": difference.title(edit),
            "diff": difference.diff(edit),
            "lines": difference.lines(edit),
            "reverted": _freeze(difference, every - {edit}, every, folder / f"without_{edit + 1}.py", gate),
            "added": _freeze(difference, {edit}, (), folder / f"only_{edit + 1}.py", gate) if add_alone else None,
        }
        for edit in sorted(every)
    ]
    content = {
        "framework": framework,
        "pair": {"standard": reference.stem, "evolved": candidate.stem},
        "claims_differ": difference.claims_differ,
        "edits": records,
    }
    write_json(output, "edits", content)


def _freeze(
    difference: Difference, taken: Collection[int], beside: Collection[int], path: Path, gate: Gate
) -> dict[str, Any]:
    """Write one ablated mechanism in the first form that the gate accepts, and return what became of it.

    `beside` are the edits of the program that it is compared with. Where both are the same program there is no file.
    """
    record: dict[str, Any] = {"variant": path.stem, "status": "same_program", "reason": None}
    side: Side = "new" if beside else "old"
    if identity(difference.source(taken, side)) == identity(difference.source(beside, side)):
        return record | {"reason": "the program is the same with and without this edit"}
    whole = {identity(difference.source((), "old")), identity(difference.source(range(len(difference.edits)), "new"))}
    reasons: list[str] = []
    if len(taken) in (0, len(difference.edits)):  # the whole reference or candidate, which has claims of its own
        side = "new" if taken else "old"
    for source in _forms(difference, taken, side):
        write_text(path, source)
        # The pair itself has certificates; everything else is gated here.
        found: dict[str, Any] = {"accepted": True, "checks": []} if identity(source) in whole else gate(path)
        write_json(path.with_suffix(".gate.json"), "gate", found)
        if found["accepted"]:
            return record | {"status": "separate"}
        reasons.append(refusal([item for item in found["checks"] if not item["passed"]], [path])["reason"])
    return record | {"status": "refused", "reason": f"not separable: {reasons[0]}"}


def _forms(difference: Difference, taken: Collection[int], side: Side) -> Iterator[str]:
    """Yield the ways to write an ablated program, the most faithful first.

    What the declaration claims may hold with all edits only, or with none; so may a fast form of the function.
    """
    other: Side = "old" if side == "new" else "new"
    plain = [difference.source(taken, claims) for claims in ([side, other] if difference.claims_differ else [side])]
    yield from plain
    bare = [program.without(source, FAST_FORMS, difference.framework) for source in plain]
    yield from (source for source, given in zip(bare, plain, strict=True) if source != given)
