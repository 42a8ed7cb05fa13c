"""The design of the trials: all hyper-parameters of a variant's trials, asked up front from an Optuna study.

The points depend on the config alone, so standard and evolved variants get the same trials, and thereby equal budgets,
by construction; they need not wait for each other, so workers never share a lock; and the first n points of a longer
design are the design of n trials, so more trials only add.

A trial that fails is replaced by a further point, fixed beforehand, so that tunings rest on equal numbers of finished
trials without waiting for each other.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from evomix.artifacts import write_json
from evomix.settings import Tuning
from evomix.streams import derive
from evomix.tuning.search_space import Dimension, dimensions


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return the Optuna distribution of a dimension; a choice is asked for by its rank, which Sobol points can fill."""
    if dimension.choices:
        return IntDistribution(0, len(dimension.choices) - 1)
    if dimension.name == "warmup_steps":
        return IntDistribution(int(dimension.low), int(dimension.high))
    return FloatDistribution(dimension.low, dimension.high, log=dimension.name == "learning_rate")


REPLACEMENTS = 2
"""Points that stand by for each trial: the second is used when the first fails too."""


def points(tuning: Tuning, rounds: int = 1) -> list[dict[str, float | int]]:
    """Return the trials: the centre of the space first, then scrambled Sobol points (Optuna's QMC sampler).

    Low-discrepancy points cover the space evenly, which is what fitting a surface needs; a sampler that adapts
    (TPE) would cluster around its own luckiest trials. With `rounds`, as many times the number of trials.
    """
    space = dimensions(tuning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.QMCSampler(
            qmc_type="sobol",
            scramble=True,
            seed=derive(tuning.seed, "design") % 2**32,
            independent_sampler=optuna.samplers.RandomSampler(seed=derive(tuning.seed, "design", "first") % 2**32),
            warn_independent_sampling=False,
        )
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial({dimension.name: _asked(dimension, dimension.value(0.0)) for dimension in space})
    asked = [study.ask({item.name: distribution(item) for item in space}) for _ in range(rounds * tuning.trials)]
    return [{item.name: _value(item, trial.params[item.name]) for item in space} for trial in asked]


def _asked(dimension: Dimension, value: float | int) -> float | int:
    """Return what Optuna is told for a hyper-parameter: a choice's rank, otherwise the value."""
    return dimension.choices.index(int(value)) if dimension.choices else value


def _value(dimension: Dimension, asked: float | int) -> float | int:
    """Return the hyper-parameter for Optuna's answer, rounded to three significant digits within the range."""
    if dimension.choices:
        return dimension.choices[int(asked)]
    return dimension.value(dimension.coordinate(asked)) if dimension.active else dimension.value(0.0)


def design(tuning: Tuning, output: Path) -> None:
    """Write design.json: steps, pruning, every trial {number, learning_rate, warmup_steps, …}, and `replacements`."""
    count, asked = tuning.trials, points(tuning, 1 + REPLACEMENTS)
    # From behind: points of a Sobol sequence that are an even number apart lie in the same half of the learning rates.
    spare = [asked[start + count - 1 - place] for start in range(count, len(asked), count) for place in range(count)]
    trials = [{"number": number, **point} for number, point in enumerate(asked[:count] + spare)]
    write_json(output, "tuning_design", {
        "seed": tuning.seed, "steps": tuning.steps, "pruning": tuning.pruning,
        "trials": trials[:count], "replacements": trials[count:],
    })  # fmt: skip


def replacement(content: Mapping[str, Any], trial: Mapping[str, Any], result: Mapping[str, Any]) -> Any:
    """Return the trial of the design (`content` of design.json) that takes the place of `trial` given its result.

    None when it need not be replaced (it has a loss, or was pruned) or no point is left.
    """
    if result["loss"] is not None or result["status"] == "pruned":
        return None
    place = int(trial["number"])  # number n + place stands at place `place` of the replacements
    return content["replacements"][place] if place < len(content["replacements"]) else None
