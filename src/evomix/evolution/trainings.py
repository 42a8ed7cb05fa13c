"""The trainings of one candidate, in as few sandboxed processes as the early stop allows."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from evomix.evolution.evaluate import Train, ascending, run_spec
from evomix.specs import RunSpec, SearchSpec
from evomix.training.contained import RunError, train_all_contained, train_contained

WORTH_STOPPING = 2_000
"""Steps from which the sizes of a candidate are trained apart, so that a hopeless one is stopped between them: below,
a training costs less than the start of the process that it would save."""


def trainer(search: SearchSpec) -> Train:
    """Return the training for candidates of `search`: all seeds of a size at once, and short trainings all at once.

    The runs of a candidate lie in <its folder>/training/<size>/seed_<seed>/. A run that fails stops those behind it in
    the same process; it is then asked for alone, and its own failure is what counts.
    """

    def train(spec: RunSpec, folder: Path) -> dict[str, Any]:
        alone = spec.optimisation.steps >= WORTH_STOPPING
        sizes = [spec.size] if alone else ascending(search)
        candidate, place = Path(spec.mechanism.path), folder.parents[1]
        runs = [
            (run_spec(search, candidate, size, seed), place / size / f"seed_{seed}")
            for size in sizes
            for seed in search.seeds
        ]
        if spec == runs[0][0]:
            with contextlib.suppress(RunError):
                train_all_contained(runs)
        return train_contained(spec, folder)

    return train
