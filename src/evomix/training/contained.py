"""Training in the sandbox: every run of every variant goes through here, so that all are treated alike.

The trusted side writes the spec, starts `evomix train-worker` confined to the corpus, the mechanism and the run's own
folder, and reads back the summary. The mechanism's code never runs in this process.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from evomix.artifacts import read_json
from evomix.errors import UserError
from evomix.gate import sandbox
from evomix.specs import RunSpec, spec_digest, write_spec
from evomix.training.preemption import EXIT_CODE

_START_SECONDS = 120.0


class RunFailed(Exception):
    """A run ended without a summary: its code raised, or the sandbox stopped it."""


def finished_summary(spec: RunSpec, folder: Path) -> dict[str, Any] | None:
    """Return the summary of a completed run of exactly this spec in `folder`, or None."""
    try:
        summary = read_json(folder / "summary.json", "training")
    except UserError:
        return None
    return summary if summary.get("spec_digest") == spec_digest(spec) else None


def train_contained(spec: RunSpec, folder: Path) -> dict[str, Any]:
    """Train `spec` in the sandbox, with its files in `folder`, and return the summary.

    A completed run of the same spec is kept, an interrupted one resumes. Raises RunFailed when the mechanism's code raised
    or was stopped; exits with EXIT_CODE after a checkpoint when this process was asked to stop.
    """
    if (summary := finished_summary(spec, folder)) is not None:
        return summary
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "spec.json"
    write_spec(path, spec)
    result = sandbox.run(
        ["-m", "evomix", "train-worker", str(path), str(folder)],
        readable=[Path(spec.corpus.folder), Path(spec.mechanism.path), path],
        scratch=folder,
        settings=spec.sandbox,
        seconds=_START_SECONDS + spec.sandbox.seconds_per_step * spec.optimisation.steps,
        stream=True,
        gpu=spec.execution.device == "cuda",
    )
    if result.returncode == EXIT_CODE:
        sys.exit(EXIT_CODE)
    if result.stopped is not None and not result.stopped.startswith("signal"):
        raise RunFailed(f"the sandbox stopped the run: over its limit of {result.stopped}")
    summary = finished_summary(spec, folder)
    if result.returncode or summary is None:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        raise RunFailed(lines[-1] if lines else f"the run ended with status {result.returncode} and no summary")
    return summary
