"""The config's section `probes`: which abilities are probed beyond the loss on text, and how.

Only pydantic is imported here: the Snakefile reads this module through the config.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from evomix.settings import Seeds, Settings

TaskKind = Literal["mqar", "overwrite", "noisy_recall", "selective_copy", "parity", "s3", "regression"]

_COUNTED: dict[TaskKind, tuple[int, int]] = {
    "mqar": (3, 32),
    "overwrite": (5, 16),
    "noisy_recall": (8, 16),
    "selective_copy": (2, 64),
    "regression": (4, 10),
}
"""Tasks with items: (fewest tokens per item, most items)."""


class ProbeTask(Settings):
    """One task in one setting."""

    task: TaskKind = Field(
        description="module of `evomix.probes` that draws the sequences and says where they are from"
    )
    lengths: Annotated[list[Annotated[int, Field(ge=4, le=4_096)]], Field(min_length=1)] = Field(
        description="tokens per sequence: the first is trained and tested, longer ones are tested only"
    )
    items: int = Field(
        0,
        ge=0,
        description="key–value pairs (`mqar`), re-bound keys (`overwrite`), keys (`noisy_recall`), tokens to copy "
        "(`selective_copy`), dimensions (`regression`); none for `parity` and `s3`",
    )
    noise: float = Field(0.0, ge=0, lt=0.9, description="share of noise tokens, for `noisy_recall`")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sorted(set(self.lengths)) != self.lengths:
            raise ValueError(f"lengths of {self.task} ({self.lengths}) must ascend")
        if self.task not in _COUNTED:
            if self.items:
                raise ValueError(f"{self.task} has no items; leave the key out")
            return self
        per_item, most = _COUNTED[self.task]
        if not 2 <= self.items <= most:
            raise ValueError(f"{self.task} needs 2 to {most} items, not {self.items}")
        if len(self.lengths) > 1:
            raise ValueError(f"{self.task} is tested at the length it is trained at; give one length")
        if self.lengths[0] < per_item * self.items:
            raise ValueError(
                f"{self.task} with {self.items} items needs {per_item * self.items} tokens, not {self.lengths[0]}"
            )
        if self.noise and self.task != "noisy_recall":
            raise ValueError(f"{self.task} has no noise; leave the key out")
        return self

    @property
    def name(self) -> str:
        """Name of the task in paths and results, for example `mqar-4`, `parity`."""
        return f"{self.task}-{self.items}" if self.items else self.task

    @property
    def results(self) -> dict[int, str]:
        """Length → name under which its accuracy is reported; a task of one length reports under its own name."""
        if len(self.lengths) == 1:
            return {self.lengths[0]: self.name}
        return {length: f"{self.name}@{length}" for length in self.lengths}


class Probing(Settings):
    """How every probe is trained: small, and the same for both variants."""

    width: int = Field(64, ge=8, description="width of the fixed shell in the probes")
    layers: int = Field(2, ge=1, description="blocks")
    heads: int = Field(2, ge=1, description="heads; must divide the width")
    steps: int = Field(ge=2, description="optimiser steps")
    train_rows: int = Field(100_000, ge=1, description="training sequences of a task, the same for all seeds")
    batch_size: int = Field(256, ge=1, description="sequences per step")
    learning_rate: float = Field(0.001, gt=0, description="peak, the same for both variants (nothing is tuned here)")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.1, ge=0, description="decoupled weight decay")
    evaluate_every: int = Field(ge=1, description="steps between points of the accuracy's curve")
    test_rows: int = Field(1_024, ge=1, description="held-out sequences, from a stream of their own")
    seeds: Seeds = Field(
        [1, 2, 3], description="paired training seeds; nothing is chosen on them and no claim rests on them"
    )


class ProbeLengths(Settings):
    """At which lengths trained models of the validation are read: the file config/probe-lengths.json."""

    multiples: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = Field(
        [1, 2, 4, 8],
        description="length generalisation: trained models of the validation read the test shard at these multiples of "
        "`corpus.sequence_length`",
    )


class Probes(Probing, ProbeLengths):
    """Probes beyond the loss on text: what the two variants of a framework can and cannot do."""

    tasks: list[ProbeTask] = Field(min_length=1, description="tasks, one training per task, variant and seed")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"probes.heads ({self.heads}) must divide probes.width ({self.width})")
        if self.train_rows < self.batch_size:
            raise ValueError(f"probes.train_rows ({self.train_rows}) is fewer than one batch of {self.batch_size}")
        names = [task.name for task in self.tasks]
        if len(set(names)) != len(names):
            raise ValueError(f"probes.tasks has a task twice ({', '.join(sorted(names))})")
        if sorted(set(self.multiples)) != self.multiples or self.multiples[0] != 1:
            raise ValueError("probes.multiples must ascend and begin with 1")
        return self
