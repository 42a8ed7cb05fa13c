"""Pruning: trials that look bad early are stopped by Optuna's successive halving.

A trial is judged within its worker's share alone, against the trials before it in the design's order, so what is pruned
depends on neither the speed of jobs nor a kill; it does depend on how many workers share the trials. A pruned trial has
no final loss: the response surface never sees its early one, which stands in trials.parquet and the journal.

Off unless asked for: at equal compute a surface through fewer whole trials chooses better (docs/calibration.md).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from evomix.specs import RunSpec

REDUCTION = 2
"""The better half goes on. One rung alone: a quarter of the steps ranks trials badly (simulated regret 15e-3 nats
against 2.4e-3 at half), and each further rung would halve what the response surface is fitted to."""

Trainer = Callable[[RunSpec, Path], dict[str, Any]]
"""Trains a spec in a folder, resumable, and returns what it wrote as summary.json."""
Pauser = Callable[[RunSpec, Path, int], float | None]
"""Trains a spec in a folder up to a step; returns the held-out loss there, or None when the run ended before."""


def rung(steps: int, every: int) -> int | None:
    """Return the step at which a trial is judged: the last held-out evaluation in the first half of `steps`.

    None when the held-out loss is not measured before the second half.
    """
    return steps // 2 // every * every or None


class Halving:
    """The trials of one share as an Optuna study in memory; call `train` for each in turn."""

    def __init__(self, steps: int, every: int) -> None:
        self.rung = rung(steps, every)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=self.rung or steps, reduction_factor=REDUCTION)
        self.study = optuna.create_study(pruner=pruner)

    def train(self, spec: RunSpec, folder: Path, train: Trainer, pause: Pauser) -> dict[str, Any]:
        """Return the next trial's summary with `rungs`, its held-out losses by step; a pruned one has no loss."""
        asked, seen = self.study.ask(), {}
        early = pause(spec, folder, self.rung) if self.rung else None
        if self.rung and early is not None:
            seen[str(self.rung)] = early
            asked.report(early, self.rung)
            if asked.should_prune():
                self.study.tell(asked, state=TrialState.PRUNED)
                reason = f"held-out loss {early:.4f} after {self.rung} steps was not in the better half so far"
                return {"status": "pruned", "reason": reason, "loss": None, "steps": self.rung, "rungs": seen}
        summary = train(spec, folder)
        lost = summary["loss"] is None
        self.study.tell(asked, None if lost else summary["loss"], TrialState.FAIL if lost else TrialState.COMPLETE)
        return {**summary, "rungs": seen}
