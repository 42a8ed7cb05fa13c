"""The trials as an Optuna study in journal storage, for Optuna's own tools (dashboard, plots, importances)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from evomix.artifacts import atomic_path
from evomix.tuning.design import distribution
from evomix.tuning.search_space import Dimension


def _distributions(space: tuple[Dimension, ...]) -> dict[str, BaseDistribution]:
    """Return the space as a reader of the study knows it: batch sizes as choices."""
    return {item.name: CategoricalDistribution(item.choices) if item.choices else distribution(item) for item in space}


def tell(path: Path, name: str, space: tuple[Dimension, ...], trials: list[dict[str, Any]]) -> None:
    """Write a fresh study called `name` to `path` and tell it all trials in their order.

    A trial without a loss was pruned or has failed. Attribute `number` is the trial's in the design, which replacements
    of failed trials skip to.

    Only this function writes the journal, after the workers have ended, so no lock can be left behind by a killed one.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with atomic_path(path) as temporary:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(temporary)))
        study = optuna.create_study(storage=storage, study_name=name, direction="minimize")
        known = _distributions(space)
        for trial in trials:
            state = TrialState.PRUNED if trial["status"] == "pruned" else TrialState.FAIL
            study.add_trial(
                create_trial(
                    state=state if trial["loss"] is None else TrialState.COMPLETE,
                    value=trial["loss"],
                    params={item: trial[item] for item in known},
                    distributions=known,
                    intermediate_values={int(step): loss for step, loss in trial["rungs"].items()},
                    user_attrs={
                        "number": trial["number"],
                        "spec_digest": trial["spec_digest"],
                        "reason": trial["reason"],
                    },
                )
            )
