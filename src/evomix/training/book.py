"""The book of one run: its held-out measurements, its record, and the results it leaves behind.

Whoever moves the weights (one run alone or many stacked) hands over the model when something is to be measured or
written. Nothing in summary.json depends on time or interruptions; its provenance names the code by fingerprint, not by
commit, so that a commit in the middle of a study leaves the bytes of finished and unfinished runs alike.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from evomix.artifacts import atomic_path, write_json
from evomix.corpus.tokens import TokenRows
from evomix.fingerprint import fingerprint
from evomix.model.flops import counted_flops, forward_flops
from evomix.model.transformer import Transformer
from evomix.specs import RunSpec, spec_digest
from evomix.training.exams import open_exam
from evomix.training.finished import MODULE
from evomix.training.record import Record
from evomix.training.schedule import learning_rate


@contextmanager
def undisturbed(model: Transformer) -> Iterator[None]:
    """Leave the model's buffers as they were: being measured must change neither the training nor a stack of it."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    yield
    for name, buffer in model.named_buffers():
        buffer.copy_(before[name])


class Book:
    """Record and results of the run `spec` in `folder`."""

    def __init__(self, spec: RunSpec, folder: Path) -> None:
        self.spec, self.folder = spec, Path(folder)
        rows = TokenRows(Path(spec.corpus.folder), spec.measurement.shard, spec.architecture.sequence_length)
        self.exam = open_exam(rows, spec.measurement.rows, spec.execution.precision)
        self.record = Record(spec.optimisation.steps)
        self.evaluation_seconds = 0.0

    @property
    def title(self) -> str:
        """The run's name in progress lines."""
        return f"{self.spec.framework} {self.spec.variant} {self.spec.size} seed {self.spec.seed}"

    def add_steps(self, values: list[tuple[float, float]]) -> None:
        """Record the (loss, gradient norm) of the steps that follow the finished ones."""
        first = self.record.finished
        for offset, (loss, norm) in enumerate(values):
            self.record.add_step(loss, norm, learning_rate(self.spec.optimisation, first + offset))

    def evaluate(self, model: Transformer) -> None:
        """Add a point of the held-out curve; a diverged run has none."""
        if self.record.diverged:
            return
        began = time.monotonic()
        with undisturbed(model):
            self.record.add_evaluation(self.exam.point(model, self.record.finished))
        self.evaluation_seconds += time.monotonic() - began

    def pause(self) -> None:
        """Write paused.json: the held-out losses so far, by step, on the curve's subset."""
        content = {
            "spec_digest": spec_digest(self.spec),
            "code": fingerprint(MODULE),
            "held_out": {str(int(step)): loss for step, loss in self.record.evaluations},
        }
        write_json(self.folder / "paused.json", "paused", content)

    def finish(self, model: Transformer, times: dict[str, Any]) -> None:
        """Hold the final exam on the whole shard and write all results, the summary last.

        `times` go to timing.json, with the throughput added.
        """
        record = self.record
        marks: dict[str, Any] = {"loss": None, "bits_per_byte": None}
        with undisturbed(model):
            if not record.diverged:
                marks = self.exam.final(model)
                if marks["loss"] is None:
                    record.reason = "final held-out loss was not finite"
            summary = self.summary(model, marks)
        weights = {key: value.cpu().contiguous().clone() for key, value in model.state_dict().items()}
        with atomic_path(self.folder / "model.safetensors") as temporary:
            save_file(weights, temporary)
        record.write_curve(self.folder / "curve.parquet")
        write_json(self.folder / "timing.json", "timing", self.times(times))
        write_json(self.folder / "summary.json", "training", summary)

    def summary(self, model: Transformer, marks: dict[str, Any]) -> dict[str, Any]:
        """Return the run's result from its final marks."""
        spec, record = self.spec, self.record
        flops = forward_flops(model)
        return {
            "framework": spec.framework,
            "variant": spec.variant,
            "size": spec.size,
            "seed": spec.seed,
            "spec_digest": spec_digest(spec),
            "status": "diverged" if record.diverged else "finished",
            "reason": record.reason,
            **marks,
            "shard": spec.measurement.shard,
            "steps": record.finished,
            "loss_at_start": record.loss_at_start,
            "subset": None if record.diverged else {"rows": len(self.exam.subset), "loss": record.evaluations[-1][1]},
            "steps_to_90": None if record.diverged else record.steps_to(0.9),
            "spikes": record.spikes,
            "largest_gradient_norm": record.largest_gradient_norm,
            "parameters": model.parameter_counts(),
            "flops_per_token": flops["total"],
            "flops": flops | counted_flops(model),
            "provenance": {
                "code": fingerprint(MODULE),
                "packages": {"torch": torch.__version__, "numpy": np.__version__},
            },
        }

    def times(self, times: dict[str, Any]) -> dict[str, Any]:
        """Return `times` (with `seconds` of the whole group and `runs` in it) with this run's throughput."""
        training = max(times["seconds"] - times["runs"] * self.evaluation_seconds, 1e-9)
        per_step = self.spec.optimisation.batch_size * self.spec.architecture.sequence_length
        rate = self.record.finished / training
        return {
            **times,
            "evaluation_seconds": self.evaluation_seconds,
            "steps_per_second": rate,
            "tokens_per_second": rate * per_step,
        }

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must carry besides tensors."""
        return {
            "record": self.record.state(),
            "exam": self.exam.state(),
            "evaluation_seconds": self.evaluation_seconds,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.record = Record.from_state(state["record"])
        self.exam.load_state(state["exam"])
        self.evaluation_seconds = state["evaluation_seconds"]
