"""One worker's share of a variant's trials: each is an ordinary training in its own folder.

Workers share nothing but the design, so a killed worker blocks nobody: started again, it keeps finished trials and the
engine resumes the one that was under way from its checkpoint. A trial that fails is replaced by the next point of the
design; so is one that takes its job down with it time and again.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from evomix.artifacts import digest_file, read_json, write_json
from evomix.errors import UserError
from evomix.fingerprint import fingerprint
from evomix.specs import RunSpec, spec_digest, write_spec
from evomix.streams import derive
from evomix.training.contained import RunError
from evomix.training.finished import MODULE
from evomix.tuning.design import replacement
from evomix.tuning.pruning import Halving, Pauser, Trainer
from evomix.tuning.search_space import NAMES

DEATHS = 5
"""Deaths of its job, without a new checkpoint in between, after which a trial has failed: one less than the starts that
profiles/slurm grants a job, so that its last retry goes on without the trial."""


def trial_spec(run: RunSpec, trial: dict[str, Any], steps: int) -> RunSpec:
    """Return the spec of one trial: the run's, with the trial's hyper-parameters, number of steps and training seed.

    Every trial has a seed of its own, the same for all variants that share the run's. With one seed for all, what that
    seed does to neighbouring points is alike, and the surface takes its whims for the shape of the loss.
    """
    optimisation = run.optimisation.model_copy(update={"steps": steps, **{name: trial[name] for name in NAMES}})
    seed = derive(run.seed, "trial", trial["number"]) % 2**31
    return run.model_copy(update={"optimisation": optimisation, "seed": seed})


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
    or whose code raised or was stopped, is a result with its reason and without a loss; unless pruned, another trial
    of the design takes its place.
    """
    if not 0 <= worker < workers:
        raise UserError(f"worker {worker} does not exist among {workers} workers; they are numbered from 0")
    content = read_json(design, "tuning_design")
    mine = [trial for trial in content["trials"] if trial["number"] % workers == worker]

    def prepared(trial: dict[str, Any]) -> tuple[RunSpec, Path]:
        spec, place = trial_spec(run, trial, content["steps"]), folder / f"trial_{trial['number']}"
        _prepare(spec, place)
        return spec, place

    runs = [prepared(trial) for trial in mine]
    take: Trainer = partial(_once, train=train)
    if content["pruning"] == "halving":
        take = partial(Halving(content["steps"], run.measurement.every).train, train=take, pause=pause)
    else:
        pending = [(spec, place) for spec, place in runs if not _done(place) and _deaths(place) < DEATHS]
        # The loop below finds out which run it was that raised.
        with contextlib.suppress(RunError), _counted(pending[0][1]) if pending else contextlib.nullcontext():
            train_all(pending)
    records: list[dict[str, Any]] = []
    for number, trial in enumerate(mine, start=1):  # grows by the replacements
        spec, place = prepared(trial)
        summary = _result(spec, place, take)
        if instead := replacement(content, trial, summary):
            mine.append(instead)
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


def _done(folder: Path) -> bool:
    return (folder / "summary.json").is_file()


def _once(spec: RunSpec, folder: Path, train: Trainer) -> dict[str, Any]:
    """Return the trial's summary, training it unless it has been trained."""
    return read_json(folder / "summary.json", "training") if _done(folder) else train(spec, folder)


def _result(spec: RunSpec, folder: Path, take: Trainer) -> dict[str, Any]:
    """Return the trial's summary; a failed training has one too."""
    failed = {"status": "failed", "loss": None, "steps": None}
    if not _done(folder) and _deaths(folder) >= DEATHS:
        return {**failed, "reason": f"its job died {DEATHS} times without getting further"}
    try:
        with _counted(folder):
            summary = take(spec, folder)
    except RunError as error:
        return {**failed, "reason": str(error)}
    (folder / "deaths.json").unlink(missing_ok=True)
    return summary


def _step(folder: Path) -> str:
    """Name the newest checkpoint of a trial."""
    return max((path.name for path in (folder / "checkpoint").glob("step_*")), default="")


def _deaths(folder: Path) -> int:
    """Return how often a job died in this trial since it last got further."""
    try:
        found = read_json(folder / "deaths.json", "deaths")
    except UserError:
        return 0
    return int(found["deaths"]) if found["step"] == _step(folder) else 0


@contextlib.contextmanager
def _counted(folder: Path) -> Iterator[None]:
    """Count a death beforehand and take it back afterwards: only a job that is killed in between leaves it behind."""
    before, step = _deaths(folder), _step(folder)
    write_json(folder / "deaths.json", "deaths", {"deaths": before + 1, "step": step})
    try:
        yield
    finally:
        if before and step == _step(folder):
            write_json(folder / "deaths.json", "deaths", {"deaths": before, "step": step})
        else:
            (folder / "deaths.json").unlink(missing_ok=True)


def _is_same(path: Path, identity: dict[str, str]) -> bool:
    try:
        content = read_json(path, "trial")
    except UserError:
        return False
    return all(content.get(key) == value for key, value in identity.items())
