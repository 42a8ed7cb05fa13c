"""Draw any figure of the catalogue by name: what `evomix figure` and the workflow call."""

from __future__ import annotations

import importlib
from pathlib import Path

from evomix.errors import UserError
from evomix.figures import catalogue
from evomix.figures.tree import Results


def draw(name: str, results: Path, output: Path, framework: str | None = None) -> None:
    """Draw figure `name` of the study under `results` as `output`.{svg,pdf,png,csv}.

    `framework` is needed by figures of one framework and refused by those of the whole study (UserError).
    """
    if name not in catalogue.names():
        raise UserError(f"there is no figure {name!r}; choose one of {', '.join(catalogue.names())}")
    if not results.is_dir():
        raise UserError(f"{results} is not a folder; give the results folder of a study, for example results/demo")
    entry = catalogue.find(name)
    if entry.per_framework and framework is None:
        raise UserError(f"figure {name} shows one framework; say which with --framework")
    if framework is not None and not entry.per_framework:
        raise UserError(f"figure {name} shows all frameworks; leave out --framework")
    module = importlib.import_module(f"evomix.figures.{name}")
    module.draw(Results(results), output, *([framework] if framework else []))
