"""The training engine: runs from their specs to their results, exact to the bit after any interruption.

Every step's loss and gradient norm go to a buffer on the device and are looked at in blocks, so nothing waits for the
device between steps. A checkpoint holds everything the future depends on; a killed run continues from it and writes the
same bytes as one that was never stopped. Measured times are kept apart in timing.json.
"""

from __future__ import annotations

import logging
import resource
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import torch

from evomix.artifacts import read_json
from evomix.corpus.tokens import TokenRows
from evomix.fingerprint import fingerprint
from evomix.model.transformer import Transformer
from evomix.specs import RunSpec, spec_digest
from evomix.streams import derive
from evomix.training import checkpoint
from evomix.training.book import Book
from evomix.training.device import open_device
from evomix.training.finished import MODULE, finished_summary, held_out_at
from evomix.training.graph import capture
from evomix.training.inputs import Batches, check_corpus, load_mechanism, use_threads
from evomix.training.objective import objective_of
from evomix.training.preemption import Preempted, watch_termination
from evomix.training.progress import Progress
from evomix.training.step_times import Work
from evomix.training.trainer import Trainer

logger = logging.getLogger(__name__)

BLOCK = 50
"""Steps whose losses stay on the device before they are looked at: a diverged run ends within this many steps."""

ALONE = "one run"
"""Why a run that nothing was asked for with is not stacked."""

MANY_DISPATCHES = 5_000
"""Operations per step above which a mechanism wastes a GPU on launches."""


class Stepper(Protocol):
    """What moves the weights of one run (`Trainer`) or of R stacked runs (`stack.Stack`)."""

    tier: str
    """How a step is carried out, in a word."""
    stacked: bool
    """Whether rows and results have a leading dimension of runs."""

    def step(self, step: int, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Do one step on rows (B, …) or (R, B, …); return losses and gradient norms, 0-d or (R,)."""

    def model_of(self, run: int) -> Transformer:
        """Return a model with the current weights of a run, good until the next call."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return every tensor the future depends on."""

    def load_tensors(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `tensors` returned."""


class Session:
    """Runs in progress that one stepper moves in step, with one checkpoint in the first run's folder."""

    def __init__(
        self,
        books: list[Book],
        stepper: Stepper,
        batches: list[Batches],
        kind: str,
        work: Work,
        began: float,
        why: str,
    ) -> None:
        """Take the parts of a group of runs and resume from its checkpoint.

        `kind` names the way of computing, `why` says how it was chosen.
        """
        self.books, self.stepper, self.batches = books, stepper, batches
        self.execution = books[0].spec.execution
        self.every = books[0].spec.measurement.every
        self.steps = books[0].spec.optimisation.steps
        self.checkpoints = books[0].folder / "checkpoint"
        self.identity = identity([book.spec for book in books], kind)
        self.work, self.why = work, why
        self.began, self.seconds, self.sessions = began, 0.0, 1
        self.finished = 0
        self.spent, self.stepped = 0.0, 0
        self._resume()

    def _resume(self) -> None:
        stored = checkpoint.load(self.checkpoints)
        if stored is None:
            return
        tensors, state = stored
        if state["identity"] != self.identity:
            logger.warning("checkpoint in %s is of another spec or code version; starting afresh", self.checkpoints)
            checkpoint.clear(self.checkpoints)
            return
        self.stepper.load_tensors(tensors)
        for book, entry in zip(self.books, state["books"], strict=True):
            book.load_state(entry)
        self.seconds, self.sessions = state["seconds"], state["sessions"] + 1
        self.finished = state["finished"]
        logger.info("resuming %s at step %d", self.books[0].folder, self.finished)

    def save(self) -> None:
        """Write a checkpoint of the steps finished so far."""
        state = {
            "identity": self.identity,
            "finished": self.finished,
            "seconds": self._elapsed(),
            "sessions": self.sessions,
            "books": [book.state() for book in self.books],
        }
        checkpoint.save(self.checkpoints, self.finished, self.stepper.tensors(), state)

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self.began

    def evaluate(self) -> None:
        """Add a point to every held-out curve."""
        for run, book in enumerate(self.books):
            book.evaluate(self.stepper.model_of(run))

    def _next_stop(self, step: int) -> int:
        """Return the next step count at which something besides training happens."""
        strides = (BLOCK, self.every, self.execution.checkpoint_every)
        return min(self.steps, *((step // stride + 1) * stride for stride in strides))

    def _tokens(self, step: int) -> torch.Tensor:
        if not self.stepper.stacked:
            return self.batches[0].read(step)
        return torch.stack([batches.read(step) for batches in self.batches])

    def advance(self, stop: threading.Event) -> None:
        """Train up to the next stop, or until `stop` is set, and record the block of losses."""
        first, last = self.finished, self._next_stop(self.finished)
        device = self.batches[0].device
        clock = time.process_time if device.type == "cpu" else time.perf_counter
        began = clock()
        values = torch.zeros(last - first, 2, len(self.books), device=device)
        while self.finished < last and not stop.is_set():
            losses, norms = self.stepper.step(self.finished, self._tokens(self.finished))
            row = values[self.finished - first]
            row[0], row[1] = losses, norms
            self.finished += 1
        told = values[: self.finished - first].tolist()
        self.spent, self.stepped = self.spent + clock() - began, self.stepped + self.finished - first
        for run, book in enumerate(self.books):
            book.add_steps([(losses[run], norms[run]) for losses, norms in told])

    @property
    def diverged(self) -> bool:
        """Whether every run is lost."""
        return all(book.record.diverged for book in self.books)

    def train(self, stop: threading.Event, until: int | None = None) -> None:
        """Train to the end and write all results; Preempted after a checkpoint once `stop` is set.

        With `until`, a multiple of `every`, pause after that many steps: a checkpoint, and the held-out losses so far.
        """
        goal = min(self.steps, until or self.steps)
        others = f" and {len(self.books) - 1} more" if len(self.books) > 1 else ""
        if not self.finished:
            self.evaluate()
        with Progress(self.books[0].title + others, self.steps, self.finished) as progress:
            while self.finished < goal and not self.diverged:
                self.advance(stop)
                if self.finished % self.every == 0 or self.finished == self.steps:
                    self.evaluate()
                due = self.finished % self.execution.checkpoint_every == 0 and self.finished < self.steps
                if stop.is_set() or due:
                    self.save()
                if stop.is_set():
                    raise Preempted
                progress.show(self.finished, self.books[0].record.mean)
        if self.finished < self.steps and not self.diverged:
            self.save()
            for book in self.books:
                book.pause()
            return
        if len(self.books) > 1:
            self.save()  # results are written one after another: a kill in between must find the whole group
        times = self._times()
        logger.info("a step and run took %.3g ms: %s, %s", times["step_milliseconds"], self.stepper.tier, self.why)
        for run, book in enumerate(self.books):
            book.finish(self.stepper.model_of(run), times)
            checkpoint.sweep(book.folder)
        checkpoint.clear(self.checkpoints)

    def _times(self) -> dict[str, Any]:
        device = self.batches[0].device
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device)
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "seconds": self._elapsed(),
            "sessions": self.sessions,
            "runs": len(self.books),
            "tier": self.stepper.tier,
            "why": self.why,
            "step_milliseconds": 1e3 * self.spent / max(self.stepped, 1) / len(self.books),
            "peak_memory_bytes": peak,
            "dispatches_per_step": self.work.operations,
            "device": device.type,
            "threads": torch.get_num_threads(),
        }


def identity(specs: list[RunSpec], kind: str) -> dict[str, Any]:
    """Return what a checkpoint must agree with to be resumed: specs, code, way of computing."""
    return {"specs": [spec_digest(spec) for spec in specs], "code": fingerprint(MODULE), "kind": kind}


def prepare(spec: RunSpec) -> tuple[Trainer, Batches, Work]:
    """Check and open what a run reads; return its trainer, batches and the work of a step."""
    use_threads()
    device = open_device(spec.execution.device, spec.execution.deterministic)
    check_corpus(spec)
    mechanism = load_mechanism(spec)
    rows = TokenRows(Path(spec.corpus.folder), "train", spec.architecture.sequence_length)
    batches = Batches(rows, spec.optimisation.batch_size, spec.seed, device)
    torch.manual_seed(derive(spec.seed, "global"))
    model = Transformer(spec.architecture, mechanism, spec.seed).to(device)
    trainer = Trainer(model, spec.optimisation, spec.execution, spec.seed, objective_of(rows))
    work = trainer.work(batches.read(0))
    if work.operations > MANY_DISPATCHES:
        logger.warning(
            "%s: %d operations per step (more than %d); a GPU would mostly wait for launches",
            spec.mechanism.path,
            work.operations,
            MANY_DISPATCHES,
        )
    return trainer, batches, work


def train(spec: RunSpec, folder: Path, why: str = ALONE) -> dict[str, Any]:
    """Train one run into `folder` and return its summary; executes the mechanism's file.

    Writes curve.parquet, model.safetensors, timing.json and, last, summary.json. Resumes from folder/checkpoint/;
    returns at once when the same code has finished the same spec there. Raises UserError for inputs that do not fit,
    and ends the process through Preempted on SIGTERM. `why` goes to timing.json: why the run is not stacked.
    """
    done = finished_summary(spec, folder)
    if done is not None:
        checkpoint.clear(Path(folder) / "checkpoint")
        return done
    _train_alone(spec, folder, why)
    return read_json(Path(folder) / "summary.json", "training")


def train_until(spec: RunSpec, folder: Path, step: int) -> None:
    """Train a run up to `step`, a multiple of the steps between evaluations, and leave a checkpoint and paused.json.

    `train` goes on from there to the same bytes as without a pause. A run that diverges on the way is finished.
    """
    if finished_summary(spec, folder) is None and held_out_at(spec, folder, step) is None:
        _train_alone(spec, folder, ALONE, step)


def _train_alone(spec: RunSpec, folder: Path, why: str, until: int | None = None) -> None:
    began = time.monotonic()
    with watch_termination() as stop, torch.random.fork_rng():
        trainer, batches, work = prepare(spec)
        stepper = capture(trainer, [batches.read(step) for step in range(2)])
        Session([Book(spec, folder)], stepper, [batches], "solo", work, began, why).train(stop, until)
