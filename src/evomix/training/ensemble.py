"""Many runs of one mechanism in one process: their weights stacked, every operation launched once for all.

Runs that differ in seed, learning rate, warm-up or weight decay can share launches through `torch.func`: the model is
called under `vmap` over stacked parameters, each run keeps its own data order, dropout stream, clipping and schedule.
A tiny model costs mostly launches, so R stacked runs take less than R times as long. A mechanism may refuse to be
stacked, or worse, be silently wrong; a probe compares the first steps with runs alone, and anything but equality means
one run after another.

Whether stacking pays follows from measured step times (`step_times`).

Shapes: R runs, n parameters, B batch, T tokens.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch

from evomix.errors import UserError
from evomix.fingerprint import fingerprint
from evomix.specs import RunSpec
from evomix.training import checkpoint
from evomix.training.book import Book
from evomix.training.compiled import compiled_tier, machine_code, trace
from evomix.training.engine import Session, identity, prepare, train
from evomix.training.finished import finished_summary
from evomix.training.graph import capture, climb, tiers
from evomix.training.groups import compilable, unlike
from evomix.training.inputs import Batches
from evomix.training.preemption import watch_termination
from evomix.training.stack import Stack
from evomix.training.step_times import Choice, Work, choose
from evomix.training.step_times_measured import MACHINES
from evomix.training.trainer import Trainer

logger = logging.getLogger(__name__)

PROBE_STEPS = 3
PROBE_TOLERANCE = 2e-4
"""Steps compared before stacking, and the largest relative difference in loss or gradient norm taken for rounding."""


def probe(trainers: list[Trainer], batches: list[Batches]) -> str | None:
    """Compare the first steps of the stacked runs with the runs alone; return why they must not be stacked, or None.

    Moves the trainers; build fresh ones to train.
    """
    tokens = [torch.stack([batch.read(step) for batch in batches]) for step in range(PROBE_STEPS)]
    try:
        stack = Stack(trainers)
        streams = [trainer.dropout.get_state() for trainer in trainers]
        stacked = [stack.step(step, tokens[step]) for step in range(PROBE_STEPS)]
        for run, trainer in enumerate(trainers):
            trainer.dropout.set_state(streams[run])
            for step in range(PROBE_STEPS):
                alone = trainer.step(step, tokens[step][run])
                for ours, theirs in zip(stacked[step], alone, strict=True):
                    if not torch.isclose(ours[run], theirs, rtol=PROBE_TOLERANCE, atol=0):
                        return f"step {step + 1} differs from the run alone ({ours[run].item():g}, {theirs.item():g})"
    except Exception as error:  # what a mechanism may do under vmap, or after it, is without limit
        return f"it cannot be stacked ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    return None


def train_many(
    specs: list[RunSpec], folders: list[Path], compiled: Path | None = None, origin: str = ""
) -> list[dict[str, Any]]:
    """Train runs into their folders, stacked where that pays and is exact, else one after another; return summaries.

    Same results as `train` of each up to rounding. Finished runs are kept, an interrupted group resumes. `compiled` and
    `origin` are as for `train_stacked`. Raises as `train` does.
    """
    why = train_stacked(specs, folders, compiled, origin)
    return [train(spec, folder, why) for spec, folder in zip(specs, folders, strict=True)]


def train_stacked(
    specs: list[RunSpec],
    folders: list[Path],
    compiled: Path | None = None,
    origin: str = "",
    until: int | None = None,
) -> str:
    """Train runs into their folders as one stack if that pays and is exact; return why, or why not.

    `compiled` is the folder of these runs' compiled step, used where it equals the eager one, and for a run alone too;
    `origin` says how it came about, or why there is none. `until` is as for `engine.train_until`.
    """
    group = _group(specs, folders)
    reason = unlike([spec for spec, _ in group])
    if reason and (compiled is None or len(group) != 1):
        return reason
    return _train_stacked(group, compiled, origin, until)


def trace_many(specs: list[RunSpec], folders: list[Path], output: Path) -> None:
    """Write the traced step of the stack that `train_stacked` would train to `output`; UserError when there is none."""
    group = _group(specs, folders)
    if not group or not compilable([spec for spec, _ in group]):
        raise UserError(unlike([spec for spec, _ in group]) or "its precision is not compiled")
    with torch.random.fork_rng():
        prepared, _, choice = _prepare_stack(group, compiled=True)
        if choice.way != "compiled":
            raise UserError(f"not repaid by {choice.sentence}")
        tokens = torch.stack([feed.read(0) for _, feed in prepared])
        try:
            trace(Stack([trainer for trainer, _ in prepared]), tokens, output)
        except UserError:
            raise
        except Exception as error:  # what a mechanism may do while it is traced is without limit
            raise UserError(f"it cannot be traced ({type(error).__name__}: {error})".splitlines()[0]) from None


def _group(specs: list[RunSpec], folders: list[Path]) -> list[tuple[RunSpec, Path]]:
    """Return the runs that would be one stack: the unfinished ones."""
    runs = [(spec, Path(folder)) for spec, folder in zip(specs, folders, strict=True)]
    pending = [run for run in runs if finished_summary(*run) is None]
    # A group killed while it wrote its results is finished as that group: fewer runs would round differently.
    return runs if pending and _was_stacked(runs) else pending


def _captured_alone(trainer: Trainer, batches: Batches) -> bool:
    """Return whether a run alone has a faster way than eager steps, which stacked eager steps would not match."""
    return capture(trainer, [batches.read(step) for step in range(PROBE_STEPS)]) is not trainer


def _kind(runs: int) -> str:
    """Name the way of computing in checkpoints."""
    return f"stack of {runs}, {fingerprint(__name__)}"


def _was_stacked(runs: list[tuple[RunSpec, Path]]) -> bool:
    """Return whether there is a checkpoint of exactly these runs as a stack, compiled or not."""
    stored = checkpoint.load(runs[0][1] / "checkpoint")
    if stored is None:
        return False
    found = stored[1]["identity"]
    kind = str(found["kind"])
    return found == identity([spec for spec, _ in runs], kind) and kind.startswith(_kind(len(runs)))


def _choice(runs: list[tuple[RunSpec, Path]], trainer: Trainer, work: Work, *, compiled: bool) -> Choice:
    """Return how runs of which `trainer` is the first are to be carried out."""
    steps = runs[0][0].optimisation.steps
    return choose(MACHINES[trainer.device.type], work, len(runs), steps, compilable=compiled)


def _prepare_stack(
    runs: list[tuple[RunSpec, Path]], *, compiled: bool
) -> tuple[list[tuple[Trainer, Batches]], Work, Choice]:
    """Prepare runs: their trainers and batches, the work of a step of one, how they are to be carried out.

    Only the first run is prepared when that is one after another.
    """
    trainer, batches, work = prepare(runs[0][0])
    choice = _choice(runs, trainer, work, compiled=compiled)
    if choice.way == "alone":
        return [(trainer, batches)], work, choice
    return [(trainer, batches), *(prepare(spec)[:2] for spec, _ in runs[1:])], work, choice


def _train_stacked(runs: list[tuple[RunSpec, Path]], compiled: Path | None, origin: str, until: int | None) -> str:
    """Train all runs as one stack, or return why without a trace when that does not pay or is not exact."""
    began = time.monotonic()
    with watch_termination() as stop, torch.random.fork_rng():
        path = runs[0][0].mechanism.path
        prepared, work, choice = _prepare_stack(runs, compiled=compiled is not None)
        why = choice.sentence
        if choice.way == "alone":
            logger.info("one after another: %s", why)
            return why
        reason = probe([item[0] for item in prepared], [item[1] for item in prepared])
        if reason is not None:
            logger.warning("%s: %s; its runs go one after another", path, reason)
            return reason
        fresh = [prepare(spec)[:2] for spec, _ in runs]
        stack = Stack([item[0] for item in fresh])
        books = [Book(spec, folder) for spec, folder in runs]
        feeds = [item[1] for item in fresh]
        tokens = [torch.stack([feed.read(step) for feed in feeds]) for step in range(PROBE_STEPS)]
        best = [] if compiled is None else [compiled_tier(stack, compiled, tokens[0])]
        stepper = climb([*best, *tiers(stack, tokens[0])], stack, tokens)
        kind = _kind(len(runs))
        if compiled is not None and "compiled" in stepper.tier:
            kind = f"{kind}, {machine_code(compiled)}"
        else:
            if compiled is not None:
                origin += ", but it does not equal eager steps"
                if _choice(runs, prepared[0][0], work, compiled=False).way == "alone":
                    return f"{origin}: {why}"
            if stepper is stack and _captured_alone(*prepared[0]):
                logger.warning("%s: runs alone can be captured, their stack cannot; they go one after another", path)
                return "runs alone can be captured, their stack cannot"
        why += f"; {origin}" if origin else ""
        logger.info("%s: %s", stepper.tier, why)
        Session(books, stepper, feeds, kind, work, began, why).train(stop, until)
        return why
