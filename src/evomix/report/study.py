"""What the report says, gathered from a results folder: verdicts first, figures, code, tables, and what is missing."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any

from evomix.figures import catalogue
from evomix.figures.naming import words
from evomix.figures.search import ancestry, by_arm, winner
from evomix.figures.tree import Results
from evomix.report.card import Card, make_card
from evomix.report.diff import Line, difference, evolvable, highlight, plain
from evomix.report.formats import sentence, show
from evomix.report.table import Table
from evomix.report.write_table import FILES_ALONE, PER_FRAMEWORK, TABLES

PENDING = "no verdict yet"
LARGEST_DATA = 100_000
"""Characters of a figure's CSV that the report carries; a larger one is named and lies beside the figure."""
_AXES = 'id="axes_1"'
"""What the SVG of every figure holds that draws something."""
_GROUPS = (catalogue.COMPARISON, catalogue.PROBES, catalogue.SEARCH, catalogue.MECHANISM, catalogue.TUNING)


@dataclass(frozen=True)
class Drawing:
    """A figure of the report: its words, its SVG and the CSV behind it in base64, its size in CSS pixels."""

    title: str
    caption: str
    path: str
    svg: str
    csv: str
    width: int
    height: int

    @property
    def file(self) -> str:
        """Name under which the figure is saved from the page."""
        return self.path.removeprefix("figures/").replace("/", "_")

    @property
    def wide(self) -> bool:
        """Whether the figure is drawn at page width."""
        return self.width > 400


@dataclass(frozen=True)
class FrameworkPage:
    """Everything the report says about one framework."""

    name: str
    word: str
    sentence: str
    criteria: list[dict[str, Any]]
    strong: list[dict[str, Any]]
    warnings: list[str]
    groups: list[tuple[str, list[Drawing]]]
    remarks: list[str]
    probes: list[str]
    card: Card | None
    edits: list[tuple[int, str, float]]
    difference: list[Line]
    code: list[Line]
    tables: list[Table]

    @property
    def met(self) -> int:
        """Number of criteria of success that are met."""
        return sum(item["verdict"] == "met" for item in self.criteria)

    @property
    def added(self) -> int:
        """Number of lines that only the evolved file has."""
        return sum(line.kind == "added" for line in self.difference)

    @property
    def removed(self) -> int:
        """Number of lines that only the standard has."""
        return sum(line.kind == "removed" for line in self.difference)


@dataclass(frozen=True)
class Study:
    """The whole report."""

    preset: str
    policy: str
    size: str
    seeds: list[int]
    protocol_note: str
    comparison: str
    frameworks: list[FrameworkPage]
    figures: list[Drawing]
    tables: list[Table]
    missing: list[str]
    provenance: list[tuple[str, str]]


def drawing(results: Results, entry: catalogue.Entry, framework: str | None) -> Drawing | None:
    """Return a figure with its data; None when it has not been drawn, or says only that there is nothing to draw."""
    stem = catalogue.stem(entry.name, framework)
    svg = results.text(f"{stem}.svg")
    if svg is None or _AXES not in svg:
        return None
    data = results.text(f"{stem}.csv") or ""
    size = re.search(
        r'<svg[^>]*? width="([\d.]+)pt" height="([\d.]+)pt"|height="([\d.]+)pt"[^>]*? width="([\d.]+)pt"', svg
    )
    numbers = [float(number) for number in size.groups() if number] if size else [252.0, 180.0]
    height, width = numbers if size and size.group(3) else numbers[::-1]
    return Drawing(
        entry.title,
        entry.caption,
        stem,
        base64.b64encode(svg.encode()).decode(),
        base64.b64encode(data.encode()).decode() if len(data) <= LARGEST_DATA else "",
        round(width * 4 / 3),
        round(height * 4 / 3),
    )


def _groups(results: Results, framework: str) -> list[tuple[str, list[Drawing]]]:
    found: dict[str, list[Drawing]] = {group: [] for group in _GROUPS}
    for entry in catalogue.CATALOGUE + catalogue.ON_DEMAND:
        figure = drawing(results, entry, framework) if entry.per_framework else None
        if figure:
            found[entry.group].append(figure)
    return [(group, figures) for group, figures in found.items() if figures]


def _pending(results: Results, framework: str) -> str:
    """Say in a sentence how far the paired comparison of a framework has come."""
    section = results.validation()
    wanted = len(catalogue.VARIANTS) * len(section.get("seeds", []))
    runs = results.validation_runs(framework)
    done = int(runs["variant"].isin(catalogue.VARIANTS).sum())
    if not wanted:
        return "The paired comparison has not begun."
    return f"{done} of {wanted} runs of the paired comparison have ended; the verdict waits for all of them."


def _edits(results: Results, framework: str) -> list[tuple[int, str, float]]:
    """Return number, change and fitness of every step from the seed to the frozen candidate, in order."""
    for arm, frame in by_arm(results, framework).items():
        steps = frame.set_index("id").loc[ancestry(frame, winner(results, framework, arm, frame))[::-1]]
        columns = (steps["iteration"], steps["changes"], steps["fitness"])
        return [(int(number), str(change), float(value)) for number, change, value in zip(*columns, strict=True)]
    return []


def _remarks(results: Results, framework: str, found: dict[str, Any]) -> list[str]:
    """Say what became of the search's promise, and whether the losses were confirmed by re-measuring."""
    remarks = []
    curse = found.get("winners_curse")
    if curse and curse["found"]:
        stages = (("search", "in the search"), ("selection", "on fresh seeds"), ("validation", "in the validation"))
        gains = ", ".join(f"{show(curse[key], 'gain')} {where}" for key, where in stages)
        remarks.append(f"Gain of the frozen candidate (nats/token): {gains}. What melts away is the winner's curse.")
    elif curse:
        remarks.append(sentence(f"The search froze nothing new: {curse['reason']}"))
    runs = (results.json(f"rescoring/{framework}/{results.pair(framework)['evolved']}.json") or {}).get("runs", [])
    if runs:
        confirmed = sum(bool(run["passed"]) for run in runs)
        remarks.append(f"A trusted process measured the losses again: {confirmed} of {len(runs)} runs are confirmed.")
    return remarks


def _probes(results: Results, framework: str) -> list[str]:
    """Return what the probes say, a sentence per task."""
    found = results.json(f"probes/{framework}.json") or {"order": []}
    return [found["tasks"][name]["sentence"] for name in found["order"]]


def framework_page(results: Results, framework: str, own: list[Table]) -> FrameworkPage:
    """Gather everything about one framework; `own` are the study's tables, filtered here."""
    found = results.json(f"validation/{framework}.json")
    standard = results.text(f"mechanisms/{framework}/standard.py")
    evolved = results.text(f"mechanisms/{framework}/evolved.py")
    code = plain(evolved) if evolved is not None else ""
    return FrameworkPage(
        name=framework,
        word=found["verdict"]["word"] if found else PENDING,
        sentence=found["verdict"]["sentence"] if found else _pending(results, framework),
        criteria=found["criteria"] if found else [],
        strong=found["strong_criteria"] if found else [],
        warnings=found["warnings"] if found else [],
        groups=_groups(results, framework),
        remarks=_remarks(results, framework, found or {}),
        probes=_probes(results, framework),
        card=make_card(results, framework),
        edits=_edits(results, framework),
        difference=difference(*map(evolvable, (standard, evolved))) if standard and evolved else [],
        code=[Line("same", None, number, line) for number, line in enumerate(highlight(code), 1)] if code else [],
        tables=[table for table in (item.only(framework) for item in own) if len(table.rows)],
    )


def _missing(results: Results, frameworks: list[str]) -> list[str]:
    """Name every phase and figure that has no result, framework by framework."""
    lines = []
    for framework in frameworks:
        phases = {
            "tuning": [f"tuning/{framework}/{variant}/best.json" for variant in results.tuned(framework)],
            "the evolved mechanism": [f"mechanisms/{framework}/evolved.py"],
            "the scaling law": [f"scaling/{framework}.json"],
            "the paired validation": [f"validation/{framework}.json"],
            "the probes": [f"probes/{framework}.json"],
        }
        absent = [phase for phase, files in phases.items() if any(results.text(file) is None for file in files)]
        undrawn = [
            entry.title.lower()
            for entry in catalogue.CATALOGUE
            if entry.per_framework and _AXES not in (results.text(catalogue.stem(entry.name, framework) + ".svg") or "")
        ]
        absent += [f"figures ({'; '.join(undrawn)})"] if undrawn else []
        if absent:
            lines.append(f"{words(framework)}: {', '.join(absent)}")
    if results.json("comparison/frameworks.json") is None:
        lines.append("the comparison across frameworks")
    return lines


def _provenance(results: Results, frameworks: list[str]) -> list[tuple[str, str]]:
    for framework in frameworks:
        found = results.json(f"validation/{framework}.json")
        if found:
            block, protocol = found["provenance"], found["protocol"]
            packages = ", ".join(f"{name} {version}" for name, version in sorted(block["packages"].items()))
            return [
                ("commit", block["commit"]),
                ("code fingerprint", block["code"]),
                ("python", block["python"]),
                ("packages", packages),
                ("machine", block["machine"]),
                ("protocol digest", str(protocol["digest"])),
            ]
    return []


def _protocol_note(results: Results, frameworks: list[str]) -> str:
    for framework in frameworks:
        protocol = (results.json(f"validation/{framework}.json") or {}).get("protocol")
        if protocol:
            notes = ["The protocol has been changed since it was registered."] if protocol["changed"] else []
            if protocol["departures"]:
                notes.append(f"This preset departs from the registered protocol: {'; '.join(protocol['departures'])}.")
            return " ".join(notes)
    return ""


def gather(results: Results) -> Study:
    """Read a results folder, finished or not, into everything the report shows."""
    frameworks = results.frameworks()
    section, policy = results.validation(), results.section("policy")
    own = [collect(results) for name, collect in TABLES.items() if name not in FILES_ALONE]
    every = catalogue.CATALOGUE + catalogue.ON_DEMAND
    figures = [drawing(results, entry, None) for entry in every if not entry.per_framework]
    return Study(
        preset=policy.get("preset", ""),
        policy=policy.get("policy", ""),
        size=section.get("size", ""),
        seeds=section.get("seeds", []),
        protocol_note=_protocol_note(results, frameworks),
        comparison=(results.json("comparison/frameworks.json") or {}).get("sentence", ""),
        frameworks=[
            framework_page(results, name, [table for table in own if table.name in PER_FRAMEWORK])
            for name in frameworks
        ],
        figures=[figure for figure in figures if figure],
        tables=[table for table in own if table.name not in PER_FRAMEWORK and len(table.rows)],
        missing=_missing(results, frameworks),
        provenance=_provenance(results, frameworks),
    )
