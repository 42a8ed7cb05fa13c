"""The training engine: one run from its spec to its results, exact to the bit after any interruption.

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
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from evomix.artifacts import atomic_path, read_json, write_json
from evomix.corpus.tokens import TokenRows
from evomix.errors import UserError
from evomix.fingerprint import fingerprint
from evomix.model.flops import forward_flops
from evomix.model.transformer import Transformer
from evomix.provenance import provenance
from evomix.specs import RunSpec, spec_digest
from evomix.streams import derive
from evomix.training import checkpoint
from evomix.training.inputs import Batches, check_corpus, load_mechanism, open_device, use_threads
from evomix.training.preemption import Preempted, watch_termination
from evomix.training.progress import Progress
from evomix.training.record import Record
from evomix.training.schedule import learning_rate
from evomix.training.scoring import measure, subset_rows, summarise
from evomix.training.trainer import Trainer

logger = logging.getLogger(__name__)

MODULE = "evomix.training.engine"
BLOCK = 50
"""Steps whose losses stay on the device before they are looked at: a diverged run ends within this many steps."""

MANY_DISPATCHES = 5_000
"""Operations per step above which a mechanism wastes a GPU on launches."""


class Run:
    """One training in progress; `train` drives it."""

    def __init__(self, spec: RunSpec, folder: Path) -> None:
        """Check and open everything the run reads, build the model, and resume from a checkpoint if there is one."""
        self.spec, self.folder = spec, Path(folder)
        self.identity = {"spec": spec_digest(spec), "code": fingerprint(MODULE)}
        self.began = time.monotonic()
        self.threads = use_threads()
        self.device = open_device(spec.execution.device)
        check_corpus(spec)
        mechanism = load_mechanism(spec)
        corpus, tokens = Path(spec.corpus.folder), spec.architecture.sequence_length
        self.held_out = TokenRows(corpus, spec.measurement.shard, tokens)
        self.subset = subset_rows(len(self.held_out), spec.measurement.rows)
        rows = TokenRows(corpus, "train", tokens)
        self.batches = Batches(rows, spec.optimisation.batch_size, spec.seed, self.device)
        torch.manual_seed(derive(spec.seed, "global"))
        model = Transformer(spec.architecture, mechanism, spec.seed).to(self.device)
        self.trainer = Trainer(model, spec.optimisation, spec.execution, spec.seed)
        self.steps = spec.optimisation.steps
        self.record = Record(self.steps)
        self.timing = {"seconds": 0.0, "evaluation_seconds": 0.0, "sessions": 0}
        self.dispatches = self.trainer.count_dispatches(self.batches.read(0))
        if self.dispatches > MANY_DISPATCHES:
            logger.warning(
                "%s: %d operations per step (more than %d); a GPU would mostly wait for launches",
                spec.mechanism.path,
                self.dispatches,
                MANY_DISPATCHES,
            )
        self._resume()
        self.timing["sessions"] += 1

    def _resume(self) -> None:
        stored = checkpoint.load(self.checkpoints)
        if stored is None:
            return
        tensors, state = stored
        if state["identity"] != self.identity:
            logger.warning("checkpoint in %s is of another spec or code version; starting afresh", self.checkpoints)
            checkpoint.clear(self.checkpoints)
            return
        self.trainer.load_tensors(tensors)
        self.record = Record.from_state(state["record"])
        self.timing = state["timing"]
        logger.info("resuming %s at step %d", self.folder, self.record.finished)

    @property
    def checkpoints(self) -> Path:
        """Folder of the resume checkpoints, removed when the run has finished."""
        return self.folder / "checkpoint"

    def save(self) -> None:
        """Write a checkpoint of the steps finished so far."""
        timing = self.timing | {"seconds": self._seconds()}
        state = {"identity": self.identity, "record": self.record.state(), "timing": timing}
        checkpoint.save(self.checkpoints, self.record.finished, self.trainer.tensors(), state)

    def _seconds(self) -> float:
        return self.timing["seconds"] + time.monotonic() - self.began

    def evaluate(self) -> None:
        """Add a point of the held-out curve."""
        began = time.monotonic()
        losses = measure(self.trainer.model, self.held_out, self.subset, self.spec.execution.precision)
        self.record.add_evaluation(float(losses.mean()))
        self.timing["evaluation_seconds"] += time.monotonic() - began

    def _next_stop(self, step: int) -> int:
        """Return the next step count at which something besides training happens."""
        every, save_every = self.spec.measurement.every, self.spec.execution.checkpoint_every
        return min(self.steps, *((step // stride + 1) * stride for stride in (BLOCK, every, save_every)))

    def advance(self, stop: threading.Event) -> None:
        """Train up to the next stop, or until `stop` is set, and record the block of losses."""
        first, last = self.record.finished, self._next_stop(self.record.finished)
        losses = torch.zeros(last - first, 2, device=self.device)
        done = first
        while done < last and not stop.is_set():
            values = self.trainer.step(done, self.batches.read(done))
            torch.stack(values, out=losses[done - first])
            done += 1
        for offset, (loss, norm) in enumerate(losses[: done - first].tolist()):
            self.record.add_step(loss, norm, learning_rate(self.spec.optimisation, first + offset))

    def train(self, stop: threading.Event) -> dict[str, Any]:
        """Train to the end, write all results, return the summary; Preempted after a checkpoint once `stop` is set."""
        record, every = self.record, self.spec.measurement.every
        title = f"{self.spec.framework} {self.spec.variant} {self.spec.size} seed {self.spec.seed}"
        if not record.evaluations:
            self.evaluate()
        with Progress(title, self.steps, record.finished) as progress:
            while record.finished < self.steps and not record.diverged:
                self.advance(stop)
                step = record.finished
                if not record.diverged and (step % every == 0 or step == self.steps):
                    self.evaluate()
                if stop.is_set() or (step % self.spec.execution.checkpoint_every == 0 and step < self.steps):
                    self.save()
                if stop.is_set():
                    raise Preempted
                progress.show(step, record.mean)
        return self.finish()

    def finish(self) -> dict[str, Any]:
        """Measure the final loss on the whole shard and write all results; the summary comes last."""
        losses = torch.full((1,), float("nan"), dtype=torch.float64)
        if not self.record.diverged:
            every_row = np.arange(len(self.held_out), dtype=np.int64)
            losses = measure(self.trainer.model, self.held_out, every_row, self.spec.execution.precision)
            if not bool(losses.isfinite().all()):
                self.record.reason = "final held-out loss was not finite"
        summary = self.summary(losses)
        weights = {key: value.cpu().contiguous().clone() for key, value in self.trainer.model.state_dict().items()}
        with atomic_path(self.folder / "model.safetensors") as temporary:
            save_file(weights, temporary)
        self.record.write_curve(self.folder / "curve.parquet")
        write_json(self.folder / "timing.json", "timing", self.times())
        write_json(self.folder / "summary.json", "training", summary)
        checkpoint.clear(self.checkpoints)
        return read_json(self.folder / "summary.json", "training")

    def summary(self, losses: torch.Tensor) -> dict[str, Any]:
        """Return the run's result from the final row losses (n,); no times, so that equal runs give equal bytes."""
        spec, record, model = self.spec, self.record, self.trainer.model
        final = summarise(losses, self.held_out)
        flops = forward_flops(model)
        return {
            "framework": spec.framework,
            "variant": spec.variant,
            "size": spec.size,
            "seed": spec.seed,
            "spec_digest": self.identity["spec"],
            "status": "diverged" if record.diverged else "finished",
            "reason": record.reason,
            "loss": None if record.diverged else final["loss"],
            "bits_per_byte": None if record.diverged else final["bits_per_byte"],
            "shard": spec.measurement.shard,
            "steps": record.finished,
            "loss_at_start": record.loss_at_start,
            "steps_to_90": None if record.diverged else record.steps_to(0.9),
            "spikes": record.spikes,
            "largest_gradient_norm": record.largest_gradient_norm,
            "parameters": model.parameter_counts(),
            "flops_per_token": flops["total"],
            "flops": flops,
            "provenance": provenance(MODULE),
        }

    def times(self) -> dict[str, Any]:
        """Return the measured cost of the run over all its sessions."""
        seconds = self._seconds()
        training = max(seconds - self.timing["evaluation_seconds"], 1e-9)
        per_step = self.spec.optimisation.batch_size * self.spec.architecture.sequence_length
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            **self.timing,
            "seconds": seconds,
            "steps_per_second": self.record.finished / training,
            "tokens_per_second": self.record.finished * per_step / training,
            "peak_memory_bytes": peak,
            "dispatches_per_step": self.dispatches,
            "device": self.device.type,
            "threads": self.threads,
        }


def finished_summary(spec: RunSpec, folder: Path) -> dict[str, Any] | None:
    """Return the summary of a run that this code already finished from this spec in `folder`, or None."""
    try:
        summary = read_json(Path(folder) / "summary.json", "training")
    except UserError:
        return None
    same = summary["spec_digest"] == spec_digest(spec) and summary["provenance"]["code"] == fingerprint(MODULE)
    return summary if same else None


def train(spec: RunSpec, folder: Path) -> dict[str, Any]:
    """Train one run into `folder` and return its summary; executes the mechanism's file.

    Writes curve.parquet, model.safetensors, timing.json and, last, summary.json. Resumes from folder/checkpoint/;
    returns at once when the same code has finished the same spec there. Raises UserError for inputs that do not fit,
    and ends the process through Preempted on SIGTERM.
    """
    done = finished_summary(spec, folder)
    if done is not None:
        return done
    with watch_termination() as stop, torch.random.fork_rng():
        return Run(spec, folder).train(stop)
