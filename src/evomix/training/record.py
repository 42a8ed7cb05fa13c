"""What a run remembers of itself: the thinned curve, spikes, and whether it has diverged.

Per-step losses arrive in blocks, in order. Everything here is a pure function of that sequence, whatever the blocks
were, so a resumed run records the same. Memory is flat in the number of steps: the curve keeps at most about 2,000
rows, each the mean over the steps since the row before.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from evomix.artifacts import atomic_path

CURVE_COLUMNS = ["step", "train_loss", "held_out_loss", "gradient_norm", "learning_rate"]

CURVE_ROWS = 2_000
"""Rows of a stored curve, evaluations aside: 100,000 steps fit in 200 kB."""

DIVERGENCE_WINDOW = 50
DIVERGENCE_EXCESS = 1.0
"""A run has diverged when its loss averages this many nats above the initial held-out loss over the window."""

SPIKE_DEVIATIONS = 6.0
_SPIKE_MEMORY = 0.98
_SPIKE_WARMUP = 100


@dataclass
class Record:
    """State of one run's record; `state` and `from_state` carry it through a checkpoint."""

    steps: int
    finished: int = 0
    rows: list[list[float]] = field(default_factory=list)
    pending: list[list[float]] = field(default_factory=list)
    window: list[float] = field(default_factory=list)
    reason: str | None = None
    diverged_at: int | None = None
    spikes: int = 0
    in_spike: bool = False
    mean: float = 0.0
    variance: float = 0.0
    largest_gradient_norm: float = 0.0
    evaluations: list[list[float]] = field(default_factory=list)

    @property
    def stride(self) -> int:
        """Steps between rows of the curve."""
        return -(-self.steps // CURVE_ROWS)

    @property
    def diverged(self) -> bool:
        """Whether the run is lost; nothing more is recorded then."""
        return self.reason is not None

    def _diverge(self, reason: str) -> None:
        self.reason, self.diverged_at = reason, self.finished

    def add_step(self, loss: float, gradient_norm: float, learning_rate: float) -> None:
        """Record the next step's training loss (nats per token), gradient norm before clipping and learning rate."""
        if self.diverged:
            return
        self.finished += 1
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            what = "loss" if not math.isfinite(loss) else "gradient norm"
            self._diverge(f"{what} was not finite at step {self.finished}")
            return
        self._watch(loss)
        self.largest_gradient_norm = max(self.largest_gradient_norm, gradient_norm)
        self.pending.append([loss, gradient_norm, learning_rate])
        if self.finished % self.stride == 0 or self.finished == self.steps:
            self._close_row(math.nan)

    def _watch(self, loss: float) -> None:
        """Count spikes against a moving mean and deviation, and end a run that has run away."""
        deviation = math.sqrt(self.variance)
        spiking = self.finished > _SPIKE_WARMUP and loss > self.mean + SPIKE_DEVIATIONS * deviation
        self.spikes += spiking and not self.in_spike
        self.in_spike = spiking
        if not spiking:
            memory = min(_SPIKE_MEMORY, 1 - 1 / self.finished)
            change = loss - self.mean
            self.mean += (1 - memory) * change
            self.variance = memory * (self.variance + (1 - memory) * change * change)
        self.window = [*self.window[-(DIVERGENCE_WINDOW - 1) :], loss]
        start = self.loss_at_start
        average = sum(self.window) / len(self.window)
        if start is not None and len(self.window) == DIVERGENCE_WINDOW and average > start + DIVERGENCE_EXCESS:
            self._diverge(
                f"training loss averaged {average:.3f} over the {DIVERGENCE_WINDOW} steps to step {self.finished}, "
                f"more than {DIVERGENCE_EXCESS:g} above its start {start:.3f}"
            )

    def _close_row(self, held_out: float) -> None:
        count = len(self.pending)
        loss, norm = (math.fsum(step[column] for step in self.pending) / count for column in (0, 1))
        self.rows.append([float(self.finished), loss, held_out, norm, self.pending[-1][2]])
        self.pending = []

    def add_evaluation(self, held_out: float) -> None:
        """Record the held-out loss after the steps so far; the first call, before any step, gives the start."""
        if self.diverged:
            return
        if not math.isfinite(held_out):
            self._diverge(f"held-out loss was not finite at step {self.finished}")
            return
        self.evaluations.append([float(self.finished), held_out])
        if self.pending:
            self._close_row(held_out)
        elif self.rows:
            self.rows[-1][2] = held_out
        else:
            self.rows.append([0.0, math.nan, held_out, math.nan, math.nan])

    @property
    def loss_at_start(self) -> float | None:
        """Held-out loss before the first step, on the curve's subset."""
        return self.evaluations[0][1] if self.evaluations else None

    def steps_to(self, share: float) -> float | None:
        """Return the steps after which `share` of the final held-out gain was first reached (linear between points).

        None when there was no gain.
        """
        if len(self.evaluations) < 2 or self.evaluations[-1][1] >= self.evaluations[0][1]:
            return None
        start, end = self.evaluations[0][1], self.evaluations[-1][1]
        target = start - share * (start - end)
        for (step, loss), (next_step, next_loss) in zip(self.evaluations, self.evaluations[1:], strict=False):
            if next_loss <= target:
                return step + (next_step - step) * (loss - target) / (loss - next_loss)
        return None

    def write_curve(self, path: Path) -> None:
        """Write the curve as Parquet: the columns CURVE_COLUMNS, held_out_loss NaN between evaluations."""
        arrays = [pa.array([row[0] for row in self.rows], pa.float64()).cast(pa.int64())]
        arrays += [pa.array([row[column] for row in self.rows], pa.float64()) for column in range(1, 5)]
        with atomic_path(path) as temporary:
            pyarrow.parquet.write_table(pa.table(arrays, names=CURVE_COLUMNS), temporary, compression="zstd")

    def state(self) -> dict[str, Any]:
        """Return the record as plain values for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Record:
        """Return the record that `state` described."""
        return cls(**state)
