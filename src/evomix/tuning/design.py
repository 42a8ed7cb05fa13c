"""The design of the trials: all hyper-parameters of a variant's trials, asked up front from an Optuna study.

The points depend on the config alone, so standard and evolved variants get the same trials, and thereby equal budgets,
by construction; they need not wait for each other, so workers never share a lock; and the first n points of a longer
design are the design of n trials, so more trials only add.
"""

from __future__ import annotations

import warnings
from pathlib import Path

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


def points(tuning: Tuning) -> list[dict[str, float | int]]:
    """Return the trials: the centre of the space first, then scrambled Sobol points (Optuna's QMC sampler).

    Low-discrepancy points cover the space evenly, which is what fitting a surface needs; a sampler that adapts
    (TPE) would cluster around its own luckiest trials.
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
    asked = [study.ask({item.name: distribution(item) for item in space}) for _ in range(tuning.trials)]
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
    """Write design.json: steps, pruning, and every trial {number, learning_rate, warmup_steps, …}."""
    trials = [{"number": number, **point} for number, point in enumerate(points(tuning))]
    write_json(output, "tuning_design", {
        "seed": tuning.seed, "steps": tuning.steps, "pruning": tuning.pruning, "trials": trials,
    })  # fmt: skip
