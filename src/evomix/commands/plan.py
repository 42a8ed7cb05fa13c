"""The command that says what a study will cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plan(preset: Annotated[str, typer.Argument(help="a preset, or the path of an overlay")] = "demo") -> None:
    """Print jobs, trainings, hours, energy and dollars of a preset before anything runs."""
    from evomix.config import load_config
    from evomix.plan import estimate, jobs, text

    config = load_config(jobs.merged(preset))
    results = Path("results") if config.preset == "paper" else Path("results") / config.preset
    everything, left = (jobs.count(preset, everything=whole) for whole in (True, False))
    print(text.render(estimate.estimate(config, everything, left, results)))
