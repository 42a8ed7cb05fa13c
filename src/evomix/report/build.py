"""The report: one self-contained HTML file from a results folder, finished or not; the same results, the same bytes."""

from __future__ import annotations

from pathlib import Path

from evomix.artifacts import write_text
from evomix.errors import UserError
from evomix.figures.tree import Results
from evomix.report.render import page
from evomix.report.study import gather

TITLE = "Can evolution beat standard attention?"


def build(results: Path, output: Path) -> None:
    """Write the report of the study under `results` to `output`.

    What a study has not done yet is named in the report. UserError when `results` is not a results folder.
    """
    if not results.is_dir():
        raise UserError(f"{results} is not a folder; give the results folder of a study, for example results/demo")
    study = gather(Results(results))
    if not study.frameworks:
        raise UserError(f"{results} holds no study: it has neither a config nor a framework's results")
    write_text(output, page("report.html.j2", study=study, title=TITLE))
