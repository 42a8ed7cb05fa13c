"""All tasks by name, and their data as shards that the training engine reads like a corpus.

Training and held-out sequences come from streams of their own, so no answer can be known beforehand.
A row is T inputs and then T targets in uint16; the manifest's `lengths` mark it as a probe's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from evomix.artifacts import atomic_path, digest_file, write_json
from evomix.corpus.tokens import DTYPE
from evomix.probes import mqar, noisy_recall, overwrite, parity, regression, s3, selective_copy
from evomix.probes.settings import Probes, ProbeTask, TaskKind
from evomix.probes.task import Task
from evomix.specs import Architecture
from evomix.streams import numpy_stream

TASKS: dict[TaskKind, Callable[[ProbeTask], Task]] = {
    "mqar": mqar.make,
    "overwrite": overwrite.make,
    "noisy_recall": noisy_recall.make,
    "selective_copy": selective_copy.make,
    "parity": parity.make,
    "s3": s3.make,
    "regression": regression.make,
}
_ROWS_PER_BLOCK = 4_096


def make(setting: ProbeTask) -> Task:
    """Return the task of a setting."""
    return TASKS[setting.task](setting)


def architecture(probes: Probes, setting: ProbeTask) -> Architecture:
    """Return the fixed shell of a setting; it has no dropout, as such tasks are trained in their sources."""
    return Architecture(
        width=probes.width,
        layers=probes.layers,
        heads=probes.heads,
        vocabulary=make(setting).vocabulary,
        sequence_length=setting.lengths[0],
        dropout=0.0,
    )


def _write_shard(path: Path, setting: ProbeTask, lengths: list[int], rows: int) -> dict[str, object]:
    """Write `rows` sequences of the longest length as path (.bin) and its manifest beside it (.json); return that."""
    task, length = make(setting), lengths[-1]
    stream = numpy_stream(0, "probe", setting.name, path.stem)
    with atomic_path(path) as temporary, temporary.open("wb") as output:
        for start in range(0, rows, _ROWS_PER_BLOCK):
            inputs, targets = task.draw(stream, min(_ROWS_PER_BLOCK, rows - start), length)
            output.write(np.hstack([inputs, targets]).astype(DTYPE).tobytes())
    manifest = {
        "documents": rows,
        "tokens": 2 * length * rows,
        "bytes": 0,  # there is no text behind it
        "sha256": digest_file(path),
        "vocabulary": task.vocabulary,
        "lengths": lengths,
    }
    write_json(path.with_suffix(".json"), "shard", manifest)
    return manifest


def write_data(probes: Probes, folder: Path) -> None:
    """Write folder/{task}/{train,test}.{bin,json} and stats.json for every task."""
    for setting in probes.tasks:
        place = folder / setting.name
        train = _write_shard(place / "train.bin", setting, setting.lengths[:1], probes.train_rows)
        test = _write_shard(place / "test.bin", setting, setting.lengths, probes.test_rows)
        stats = {"vocabulary": train["vocabulary"], "shards": {"train": train, "test": test}}
        write_json(place / "stats.json", "corpus", stats)
