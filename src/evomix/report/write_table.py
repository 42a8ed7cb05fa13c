"""All tables by name, and how one is written to disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from evomix.artifacts import write_text
from evomix.errors import UserError
from evomix.figures.tree import Results
from evomix.report import ablation, costs, probe_tables, search_tables, tables
from evomix.report.render import page
from evomix.report.table import Table

TABLES: dict[str, Callable[[Results], Table]] = {
    "verdicts": tables.verdicts,
    "per_seed": tables.per_seed,
    "scaling": tables.scaling,
    "arms": search_tables.arms,
    "finalists": search_tables.finalists,
    "candidates": search_tables.candidates,
    "tuning": tables.tuning,
    "certificates": tables.certificates,
    "ablation": ablation.ablation,
    "probes": probe_tables.probes,
    "length_generalisation": probe_tables.length_generalisation,
    "calibration": tables.calibration,
    "gallery": costs.gallery,
    "costs": costs.costs,
    "operations": costs.operations,
    "study_costs": costs.study_costs,
}
"""Name: function that collects the table from a results folder."""

PER_FRAMEWORK = {
    "per_seed",
    "probes",
    "length_generalisation",
    "finalists",
    "candidates",
    "certificates",
}
"""Tables that the report splits and shows inside each framework's section."""

FILES_ALONE = {"ablation"}
"""Tables that the report leaves out: a card says the same of every edit, beside its code."""


def write(name: str, results: Path, output: Path) -> None:
    """Write table `name` of the study under `results` as `output`.csv (full precision) and `output`.html (a page)."""
    if name not in TABLES:
        raise UserError(f"there is no table {name!r}; choose one of {', '.join(TABLES)}")
    table = TABLES[name](Results(results))
    data = table.rows.to_csv(index=False, float_format="%.9g", lineterminator="\n", na_rep="null")
    write_text(output.parent / f"{output.name}.csv", data)
    write_text(output.parent / f"{output.name}.html", page("table.html.j2", table=table, title=table.title))
