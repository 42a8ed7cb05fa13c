"""Training in the sandbox: every run of every variant goes through here, so that all are treated alike.

The trusted side writes the spec, starts `evomix train-worker` confined to the corpus, the mechanism and the run's own
folder, and reads back the summary. The mechanism's code never runs in this process.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from evomix.gate import sandbox
from evomix.specs import RunSpec, write_spec
from evomix.training import compiling
from evomix.training.finished import finished_summary, held_out_at
from evomix.training.groups import processes, unlike
from evomix.training.preemption import EXIT_CODE
from evomix.training.side_by_side import side_by_side

logger = logging.getLogger(__name__)

_START_SECONDS = 120.0


class RunError(Exception):
    """A run ended without a summary: its code raised, or the sandbox stopped it."""


def train_contained(spec: RunSpec, folder: Path) -> dict[str, Any]:
    """Train `spec` in the sandbox, with its files in `folder`, and return the summary.

    A completed run of the same spec is kept, an interrupted one resumes. Raises RunError when the mechanism's code
    raised or was stopped; exits with EXIT_CODE after a checkpoint when this process was asked to stop.
    """
    return train_all_contained([(spec, folder)])[0]


def train_all_contained(runs: Sequence[tuple[RunSpec, Path]], *, stack: bool = True) -> list[dict[str, Any]]:
    """Train runs, in one sandboxed process unless the job has several threads, and return their summaries.

    Runs of one mechanism may be stacked, which rounds differently; without `stack` every run is computed as it would
    be alone. A job of k threads trains k runs that are not stacked at a time, to the same bytes. Raises RunError when
    any of them fails; those that finished before it are kept.
    """
    count = processes(len(_pending(runs)))
    if count > 1:
        why = unlike([spec for spec, _ in runs]) if stack else "each as alone"
        why = why or _train(runs, ["--way", "stacked"], stack=True)
        pending = _pending(runs)
        ways = ["--way", "alone", "--why", f"one of {count} processes: {why}"]
        side_by_side([partial(_train, share, ways) for index in range(count) if (share := pending[index::count])])
    elif _pending(runs):
        _train(runs, [] if stack else ["--way", "alone"], stack=stack)
    summaries = [finished_summary(spec, folder) for spec, folder in runs]
    if None in summaries:
        raise RunError("the run ended without a summary")
    return [summary for summary in summaries if summary is not None]


def _pending(runs: Sequence[tuple[RunSpec, Path]]) -> list[tuple[RunSpec, Path]]:
    return [(spec, folder) for spec, folder in runs if finished_summary(spec, folder) is None]


def train_contained_until(spec: RunSpec, folder: Path, step: int) -> float | None:
    """Train `spec` in the sandbox up to `step` and pause; return its held-out loss (nats per token) there.

    None when the run ended before, because it diverged. Raises RunError as `train_contained` does.
    """
    loss = held_out_at(spec, folder, step)
    if loss is None and finished_summary(spec, folder) is None:
        _train([(spec, folder)], ["--until", str(step)])
        loss = held_out_at(spec, folder, step)
        if loss is None and finished_summary(spec, folder) is None:
            raise RunError("the run neither paused nor ended")
    return loss


def _shards(runs: Sequence[tuple[RunSpec, Path]]) -> list[Path]:
    """Return what runs need of their corpora: the training shard and the one they are measured on, nothing more."""
    wanted = {(spec.corpus.folder, shard) for spec, _ in runs for shard in ("train", spec.measurement.shard)}
    return [
        *(Path(folder) / "stats.json" for folder in sorted({folder for folder, _ in wanted})),
        *(Path(folder) / f"{shard}.{kind}" for folder, shard in sorted(wanted) for kind in ("bin", "json")),
    ]


def _train(
    runs: Sequence[tuple[RunSpec, Path]], options: Sequence[str] = (), *, stack: bool = False, compiled: bool = True
) -> str:
    """Train runs in one sandboxed process, with a compiled step if that pays; return the last line it said.

    On a GPU a run that is not stacked has a compiled step of its own, and so a process. A process that ends badly with
    a compiled step is started again without.
    """
    first, specs = runs[0][0], [spec for spec, _ in runs]
    gpu = first.execution.device == "cuda"
    if gpu and len(runs) > 1 and (not stack or unlike(specs) is not None):
        return [_train([run], options, stack=stack) for run in _pending(runs)][-1]
    for spec, folder in _pending(runs):
        folder.mkdir(parents=True, exist_ok=True)
        write_spec(folder / "spec.json", spec)
    folders = [folder for _, folder in runs]
    readable = [*_shards(runs), *(Path(path) for path in sorted({spec.mechanism.path for spec in specs}))]
    step = None
    if compiled and (stack or gpu) and compiling.considered(runs):
        step = compiling.compiled_step(runs, readable, folders[0] / "compiled")
    result = sandbox.run(
        ["-m", "evomix", "train-worker", *options, *(step.options() if step else []), *map(str, folders)],
        readable=readable,
        scratch=Path(os.path.commonpath(folders)),
        settings=first.sandbox,
        seconds=sum(_START_SECONDS + spec.sandbox.seconds_per_step * spec.optimisation.steps for spec in specs),
        stream=True,
        gpu=gpu,
    )
    shutil.rmtree(folders[0] / "compiled", ignore_errors=True)
    if result.returncode == EXIT_CODE:
        sys.exit(EXIT_CODE)
    if result.stopped is not None and not result.stopped.startswith("signal"):
        raise RunError(f"the sandbox stopped the run: over its limit of {result.stopped}")
    said = ["", *result.stderr.decode(errors="replace").strip().splitlines()][-1]
    if result.returncode and result.stopped is None and step and step.folder:
        logger.warning("%s: failed with its compiled step (%s); once more without", first.mechanism.path, said)
        return _train(runs, options, stack=stack, compiled=False)
    if result.returncode:
        raise RunError(said or f"the run ended with status {result.returncode}")
    return said
