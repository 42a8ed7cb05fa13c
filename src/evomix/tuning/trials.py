"""One worker's share of a variant's trials: each is an ordinary training in its own folder.

Workers share nothing but the design, so a killed worker blocks nobody: started again, it keeps finished trials and the
engine resumes the one that was under way from its checkpoint.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from evomix.artifacts import digest_file, read_json, write_json
from evomix.errors import UserError
from evomix.fingerprint import fingerprint
from evomix.specs import RunSpec, spec_digest, write_spec
from evomix.training.contained import RunError
from evomix.training.finished import MODULE
from evomix.tuning.pruning import Halving, Pauser, Trainer


def trial_spec(run: RunSpec, trial: dict[str, Any], steps: int) -> RunSpec:
    """Return the spec of one trial: the run's, with the trial's hyper-parameters and number of steps."""
    names = ("learning_rate", "warmup_steps", "weight_decay", "batch_size")
    optimisation = run.optimisation.model_copy(update={"steps": steps, **{name: trial[name] for name in names}})
    return run.model_copy(update={"optimisation": optimisation})


def run_trials(
    run: RunSpec,
    design: Path,
    worker: int,
    workers: int,
    folder: Path,
    output: Path,
    *,
    train: Trainer,
    pause: Pauser,
    train_all: Callable[[Sequence[tuple[RunSpec, Path]]], object] = lambda runs: None,
) -> None:
    """Train the trials whose number leaves `worker` on division by `workers`; write their results to `output`.

    `run` gives everything but the hyper-parameters; `train` is the training to use (in the sandbox, for code that
    was evolved), `pause` trains up to a step (when the design prunes), and `train_all` may train several at once
    beforehand (when it does not). Each trial lives in folder/trial_{number}/. A training that diverged or was pruned,
    or whose code raised or was stopped, is a result with its reason and without a loss; it does not stop the others.
    """
    if not 0 <= worker < workers:
        raise UserError(f"worker {worker} does not exist among {workers} workers; they are numbered from 0")
    content = read_json(design, "tuning_design")
    mine = [trial for trial in content["trials"] if trial["number"] % workers == worker]
    runs = [(trial_spec(run, trial, content["steps"]), folder / f"trial_{trial['number']}") for trial in mine]
    for spec, place in runs:
        _prepare(spec, place)
    take: Trainer = partial(_once, train=train)
    if content["pruning"] == "halving":
        take = partial(Halving(content["steps"], run.measurement.every).train, train=take, pause=pause)
    else:
        with contextlib.suppress(RunError):  # the loop below finds out which run it was
            train_all(runs)
    records = []
    for number, (trial, (spec, place)) in enumerate(zip(mine, runs, strict=True), start=1):
        summary = _result(spec, place, take)
        told = "no loss" if summary["loss"] is None else f"loss {summary['loss']:.4f}"
        print(
            f"trial {trial['number']} ({number} of {len(mine)}): {summary['status']}, {told}",
            file=sys.stderr,
            flush=True,
        )
        kept = {key: summary.get(key) for key in ("status", "reason", "loss", "steps")} | {
            "rungs": summary.get("rungs", {})
        }
        records.append({"number": trial["number"], "spec_digest": spec_digest(spec), **kept})
    write_json(
        output,
        "tuning_worker",
        {
            "framework": run.framework,
            "variant": run.variant,
            "size": run.size,
            "worker": worker,
            "design": digest_file(design),
            "trials": records,
        },
    )


def _prepare(spec: RunSpec, folder: Path) -> None:
    """Make a trial's folder, and empty it unless it belongs to this very trial and code."""
    identity = {"spec_digest": spec_digest(spec), "code": fingerprint(MODULE)}
    if folder.exists() and not _is_same(folder / "trial.json", identity):
        shutil.rmtree(folder)
    write_spec(folder / "spec.json", spec)
    write_json(folder / "trial.json", "trial", identity)


def _once(spec: RunSpec, folder: Path, train: Trainer) -> dict[str, Any]:
    """Return the trial's summary, training it unless it has been trained."""
    done = (folder / "summary.json").is_file()
    return read_json(folder / "summary.json", "training") if done else train(spec, folder)


def _result(spec: RunSpec, folder: Path, take: Trainer) -> dict[str, Any]:
    """Return the trial's summary; a failed training has one too."""
    try:
        return take(spec, folder)
    except RunError as error:
        return {"status": "failed", "reason": str(error), "loss": None, "steps": None}


def _is_same(path: Path, identity: dict[str, str]) -> bool:
    try:
        content = read_json(path, "trial")
    except UserError:
        return False
    return all(content.get(key) == value for key, value in identity.items())
