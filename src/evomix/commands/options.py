"""Options that several commands share, and the conversion of names given on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evomix import settings
from evomix.errors import UserError

Target = Annotated[Path, typer.Argument(help="file to write")]
Output = Annotated[Path, typer.Option("--output", help="file (or folder) to write")]
Section = Annotated[Path, typer.Option("--section", help="section file of the config")]
SearchSpecFile = Annotated[Path, typer.Option("--spec", help="search spec")]
FrameworkName = Annotated[str, typer.Option("--framework", help="framework")]
ArmName = Annotated[str, typer.Option("--arm", help="arm of the search")]
VariantName = Annotated[str, typer.Option("--variant", help="variant")]
Mechanism = Annotated[Path, typer.Option("--mechanism", help="frozen mechanism file")]
Stats = Annotated[Path, typer.Option("--stats", help="stats.json of the corpus")]
Policy = Annotated[Path, typer.Option("--policy", help="section file `policy`")]
Training = Annotated[Path, typer.Option("--training", help="section file `training`")]
SizeFile = Annotated[Path, typer.Option("--size", help="section file of the model size")]
Best = Annotated[Path, typer.Option("--best", help="tuned hyper-parameters")]


def framework_of(name: str) -> settings.Framework:
    """Return a framework's name; UserError when there is none of that name."""
    if name not in settings.FRAMEWORKS:
        raise UserError(f"unknown framework {name!r}; choose one of {', '.join(settings.FRAMEWORKS)}")
    return name


def arm_of(name: str) -> settings.Arm:
    """Return an arm's name; UserError when there is none of that name."""
    if name not in settings.ARMS:
        raise UserError(f"unknown arm {name!r}; choose one of {', '.join(settings.ARMS)}")
    return name
