"""How a run is examined on held-out rows: by its loss on text, by the accuracy of its answers in a probe.

The book of a run asks for a point of the curve now and then and for the final marks at the end; which exam it is
follows from the held-out shard. An exam carries through a checkpoint what it has found so far.
"""

from __future__ import annotations

import logging
import math
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from evomix.corpus.tokens import IGNORED, TokenRows
from evomix.model.transformer import Transformer
from evomix.training.objective import ANSWERS
from evomix.training.scoring import ROWS_PER_BATCH, measure, subset_rows, summarise

logger = logging.getLogger(__name__)


class Exam(Protocol):
    """Measures a model on one held-out shard."""

    subset: npt.NDArray[np.int64]
    """The rows of the curve's points."""

    def point(self, model: Transformer, step: int) -> float:
        """Return the mean loss on the curve's fixed subset (nats per target) after `step` steps."""

    def final(self, model: Transformer) -> dict[str, Any]:
        """Return the result on the whole shard, `loss` (None if not finite) and `bits_per_byte` among it."""

    def state(self) -> list[Any]:
        """Return what has been found so far, as plain values."""

    def load_state(self, state: list[Any]) -> None:
        """Restore what `state` returned."""


class TextExam:
    """Loss on text."""

    def __init__(self, rows: TokenRows, subset: int, precision: str) -> None:
        self.rows, self.subset, self.precision = rows, subset_rows(len(rows), subset), precision

    def point(self, model: Transformer, step: int) -> float:
        """Return the mean loss on the curve's fixed subset, nats per token."""
        return float(measure(model, self.rows, self.subset, self.precision).mean())

    def final(self, model: Transformer) -> dict[str, Any]:
        """Return {loss, bits_per_byte} on the whole shard."""
        every_row = np.arange(len(self.rows), dtype=np.int64)
        result = summarise(measure(model, self.rows, every_row, self.precision), self.rows)
        return {"loss": result["loss"], "bits_per_byte": result["bits_per_byte"]}

    def state(self) -> list[Any]:
        """Return nothing: the record has the curve."""
        return []

    def load_state(self, state: list[Any]) -> None:
        """Restore nothing."""


class ProbeExam:
    """Accuracy on a probe's answers at every length, the trained one first; longer ones score what lies beyond."""

    def __init__(self, rows: TokenRows, subset: int, precision: str) -> None:
        self.rows, self.subset, self.precision = rows, subset_rows(len(rows), subset), precision
        self.curve: list[tuple[int, dict[str, float | None]]] = []

    def point(self, model: Transformer, step: int) -> float:
        """Return the mean loss at the trained length on the curve's fixed subset, and keep the accuracies."""
        marks = self._mark(model, self.subset)
        self.curve.append((step, marks["accuracy"]))
        return float(marks["loss"])

    def final(self, model: Transformer) -> dict[str, Any]:
        """Return {loss, bits_per_byte (None), accuracy, refused, accuracy_curve} on the whole shard.

        `accuracy` maps a length to the share of right answers, None where the mechanism refused that length;
        `refused` says why; `accuracy_curve` lists (steps, accuracy) on the fixed subset.
        """
        marks = self._mark(model, np.arange(len(self.rows), dtype=np.int64))
        loss = marks["loss"] if math.isfinite(marks["loss"]) else None
        return {**marks, "loss": loss, "bits_per_byte": None, "accuracy_curve": self.curve}

    def _mark(self, model: Transformer, indices: npt.NDArray[np.int64]) -> dict[str, Any]:
        accuracy: dict[str, float | None] = {}
        refused: dict[str, str] = {}
        loss, accuracy[str(self.rows.lengths[0])] = self._answers(model, indices, 0, self.rows.lengths[0])
        for shorter, length in pairwise(self.rows.lengths):
            try:
                with model.reading(length):
                    accuracy[str(length)] = self._answers(model, indices, shorter, length)[1]
            except Exception as error:  # what a mechanism may do at a length it was not made for is without limit
                accuracy[str(length)] = None
                refused[str(length)] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return {"loss": loss, "accuracy": accuracy, "refused": refused}

    def _answers(
        self, model: Transformer, indices: npt.NDArray[np.int64], first: int, length: int
    ) -> tuple[float, float]:
        """Return mean loss (nats) and accuracy of the answers from position `first` on in rows cut to `length`."""
        device = model.embedding.weight.device
        half, size = self.precision == "bfloat16", ROWS_PER_BATCH[device.type]
        loss, right, asked = 0.0, 0, 0
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            for start in range(0, len(indices), size):
                rows = torch.from_numpy(self.rows.read(indices[start : start + size])).to(device)
                inputs_BT, targets_BT = ANSWERS.split(rows)
                targets_BT = targets_BT[:, first:length]
                hidden_BTD = model.hidden(inputs_BT[:, :length], None)[:, first:]
                scored_BT = targets_BT != IGNORED
                count = int(scored_BT.sum())
                loss += float(ANSWERS.loss(hidden_BTD, model.embedding.weight, targets_BT)) * count
                answers_BT = (hidden_BTD @ model.embedding.weight.T).argmax(-1)
                right += int(((answers_BT == targets_BT) & scored_BT).sum())
                asked += count
        return loss / asked, right / asked

    def state(self) -> list[Any]:
        """Return the accuracies so far."""
        return self.curve

    def load_state(self, state: list[Any]) -> None:
        """Restore the accuracies so far."""
        self.curve = [(step, accuracy) for step, accuracy in state]


def open_exam(rows: TokenRows, subset: int, precision: str) -> Exam:
    """Return the exam that a held-out shard sets."""
    return ProbeExam(rows, subset, precision) if rows.answers else TextExam(rows, subset, precision)
