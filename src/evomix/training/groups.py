"""Runs asked for together: which may be stacked, and how many processes may carry out those that are not.

Where runs go one after another, a job that was given several threads trains as many at once, each in a process of its
own: on a CPU every process has its share of the cores, on a GPU the processes share the device. A run computes the same
bytes in either case. Imports nothing heavy: the trusted side of the sandbox decides by this.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from evomix.errors import UserError
from evomix.specs import RunSpec

FEWEST_RUNS = 4
"""Runs below which stacking costs more than it saves."""

THREADS_VARIABLE = "EVOMIX_THREADS"
JOB_THREADS_VARIABLE = "OMP_NUM_THREADS"
"""How Snakemake tells a job its `threads`, 1 unless a profile sets more (`set-threads`)."""


def threads_of_a_run() -> int:
    """Return EVOMIX_THREADS, the CPU threads of one training (1: tiny models gain nothing, and jobs share cores)."""
    text = os.environ.get(THREADS_VARIABLE, "1")
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"environment variable {THREADS_VARIABLE} is {text!r}; give a number of threads, 1 or more")
    return int(text)


def job_threads() -> int:
    """Return the threads of this job, 1 where nothing is said."""
    text = os.environ.get(JOB_THREADS_VARIABLE, "1")
    return max(1, int(text)) if text.isdigit() else 1


def processes(runs: int) -> int:
    """Return how many processes may train `runs` runs: as many as the job's threads allow."""
    return max(1, min(runs, job_threads() // threads_of_a_run()))


def shared(spec: RunSpec) -> dict[str, Any]:
    """Return what runs must have in common to be stacked: all but seed, schedule and weight decay."""
    content = spec.model_dump(exclude={"seed", "variant", "size"})
    for free in ("learning_rate", "warmup_steps", "weight_decay", "clip"):
        del content["optimisation"][free]
    return content


def unlike(specs: Sequence[RunSpec]) -> str | None:
    """Return why runs cannot be stacked whatever their mechanism does, or None."""
    if len(specs) < FEWEST_RUNS:
        return f"fewer than {FEWEST_RUNS} runs"
    if any(shared(spec) != shared(specs[0]) for spec in specs[1:]):
        return "runs of different shapes, lengths or mechanisms"
    return None


def compilable(specs: Sequence[RunSpec]) -> bool:
    """Return whether the steps of such runs can be compiled: of a stack in float32 on a CPU, of any run on a GPU."""
    if specs[0].execution.device == "cuda":
        return len(specs) == 1 or unlike(specs) is None
    return specs[0].execution.precision == "float32" and unlike(specs) is None
