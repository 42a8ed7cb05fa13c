"""What a job asks of a machine, from the config alone: memory and run time by sizes, steps, number of runs, attempt.

    memory  = start + numbers alive in one step · 4 bytes        (host memory; with CUDA the device holds the step)
    minutes = start + gates + 3 · steps · runs · seconds of a step    (evomix.plan.clock; evolved code may cost more)

The second attempt asks for twice, the third for three times as much. Jobs that run candidates which no one has measured
ask for the sandbox's whole limit: the sandbox must end a greedy candidate, so that its refusal is a result; were it the
cluster, the job would fail. Read by the Snakefile: imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil

from evomix.config import Config
from evomix.plan import clock
from evomix.plan.work import Trainings, trainings
from evomix.sections import training_section
from evomix.settings import Name

_START_MB, _START_CUDA_MB = 2_000, 6_000
"""Host memory of Python, PyTorch and the trusted process beside it, without and with a CUDA context."""
_START_MINUTES = 10
_SLACK = 3
"""Run time asked for over the expected: busy nodes, and candidates may cost `flop_budget` times the standard."""
_READ_TOKENS = 8_192
"""Tokens that one batch of `evomix.probes.reading` holds, which would import torch."""


@dataclass(frozen=True)
class Need:
    """What a job trains (or reads), one group of equal trainings after another, and how many programs it gates."""

    config: Config
    groups: tuple[Trainings, ...]
    gates: int = 0
    unmeasured: bool = False

    def memory_mb(self, attempt: int = 1) -> int:
        """Return the host memory of the job in MB."""
        if self.config.training.device == "cuda":
            needed = _START_CUDA_MB
        else:
            needed = _START_MB + max(map(_step_mb, self.groups), default=0)
        if self.unmeasured:
            needed = max(needed, _START_MB + ceil(1_024 * self.config.sandbox.memory_gb))
        return needed * attempt

    def minutes(self, attempt: int = 1, longest: int | None = None) -> int:
        """Return the run time of the job in minutes, at most `longest`: what is left then continues in the next try."""
        device = clock.machine(self.config)
        seconds = sum(group.total_steps * clock.step_seconds(group, device)[0] for group in self.groups)
        minutes = (_START_MINUTES + self.gates + ceil(_SLACK * seconds / 60)) * attempt
        return minutes if longest is None else min(minutes, longest)


def _step_mb(group: Trainings) -> int:
    """Numbers alive in a step: what a block keeps for its backward pass, the scores of every head, the logits."""
    shell = group.shell
    numbers = shell.layers * (40 * shell.width + 6 * shell.heads * shell.sequence_length) + 6 * shell.vocabulary
    return ceil(group.batch * shell.sequence_length * numbers * 4 / 2**20)


def _full(config: Config, rule: str, sizes: Iterable[Name], steps: int, runs: int = 1) -> tuple[Trainings, ...]:
    """Return `runs` trainings at each of `sizes`, with the largest batch that a tuning may choose."""
    batch, section = max(config.tuning.batch_sizes), training_section(config)
    return tuple(Trainings(rule, runs, size, steps, batch, section.architecture(config.sizes[size])) for size in sizes)


def training(config: Config, size: Name) -> Need:
    """Return the need of one full training of a frozen variant."""
    return Need(config, _full(config, "train", [size], config.training.steps))


def trials(config: Config) -> Need:
    """Return the need of one worker's share of a variant's tuning."""
    tuning = config.tuning
    return Need(config, _full(config, "run_trials", [tuning.size], tuning.steps, ceil(tuning.trials / tuning.workers)))


def member(config: Config) -> Need:
    """Return the need of the training of one gallery member."""
    return Need(config, _full(config, "train_member", [config.gallery.size], config.gallery.steps))


def judgement(config: Config, role: str) -> Need:
    """Return the need of judging one program as a `candidates`, `baseline` or `finalists` search spec says."""
    search = config.evolution
    seeds = {
        "candidates": search.seeds,
        "baseline": search.baseline_seeds,
        "finalists": search.finalist_seeds,
    }[role]
    groups = _full(config, "evaluate", search.sizes, config.training.steps, len(seeds))
    return Need(config, groups, unmeasured=True)


def rescoring(config: Config) -> Need:
    """Return the need of measuring a variant's runs again, all sizes of them: one pass over the shard each."""
    validation, scaling, steps = config.validation, config.scaling, config.training.evaluate_every
    groups = _full(config, "rescore", [validation.size], steps, len(validation.seeds))
    return Need(config, groups + _full(config, "rescore", scaling.sizes, steps, len(scaling.seeds)))


def ablated(config: Config) -> Need:
    """Return the need of one worker's share of the trainings without single edits."""
    ablation, validation = config.ablation, config.validation
    runs = ablation.edits * (1 + ablation.add_alone) * len(validation.seeds[: ablation.seeds])
    share = ceil(runs / ablation.workers)
    return Need(config, _full(config, "train_edits", [validation.size], config.training.steps, share))


def probes(config: Config) -> Need:
    """Return the need of all probes of one variant."""
    groups = [item for item in trainings(config) if item.rule == "run_probes"]
    seeds = len(config.probes.seeds)
    return Need(config, tuple(replace(item, count=seeds) for item in groups))


def longer_contexts(config: Config) -> Need:
    """Return the need of reading longer rows with the runs of one variant: the curve's tokens at every length."""
    (run,) = _full(config, "read_lengths", [config.validation.size], 1, len(config.validation.seeds))
    trained = run.shell.sequence_length
    tokens, groups = config.training.evaluation_rows * trained, []
    for length in (trained * multiple for multiple in config.probes.multiples):
        batch, shell = max(1, _READ_TOKENS // length), run.shell.model_copy(update={"sequence_length": length})
        groups.append(replace(run, steps=ceil(tokens / (batch * length)), batch=batch, shell=shell))
    return Need(config, tuple(groups))


def splitting(config: Config) -> Need:
    """Return the need of gating a framework's mechanisms without (and with) single edits."""
    return Need(config, (), gates=config.ablation.edits * (1 + config.ablation.add_alone), unmeasured=True)
