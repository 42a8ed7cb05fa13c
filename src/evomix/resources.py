"""What a job asks of a machine, from the config alone: memory and run time by sizes, steps, number of runs, attempt.

    memory  = start + numbers alive in one step · 4 bytes        (host memory; with CUDA the device holds the step)
    minutes = start + 3 · steps · runs · seconds of a step       (evomix.plan.clock; evolved code may cost more)

The second attempt asks for twice, the third for three times as much. Jobs that run candidates which no one has measured
ask for the sandbox's whole limit: the sandbox must end a greedy candidate, so that its refusal is a result; were it the
cluster, the job would fail. Read by the Snakefile: imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from evomix.config import Config
from evomix.plan import clock
from evomix.sections import training_section
from evomix.settings import Name
from evomix.specs import Architecture

_START_MB, _START_CUDA_MB = 2_000, 6_000
"""Host memory of Python, PyTorch and the trusted process beside it, without and with a CUDA context."""
_START_MINUTES = 10
_SLACK = 3
"""Run time asked for over the expected: busy nodes, and candidates may cost `flop_budget` times the standard."""


@dataclass(frozen=True)
class Need:
    """What a job trains: `runs` trainings of `steps` at each of `sizes`, one after another."""

    config: Config
    sizes: tuple[Name, ...]
    steps: int
    runs: int = 1
    unmeasured: bool = False

    def memory_mb(self, attempt: int = 1) -> int:
        """Return the host memory of the job in MB."""
        if self.config.training.device == "cuda":
            needed = _START_CUDA_MB
        else:
            needed = _START_MB + max(self._step_mb(name) for name in self.sizes)
        if self.unmeasured:
            needed = max(needed, _START_MB + ceil(1_024 * self.config.sandbox.memory_gb))
        return needed * attempt

    def minutes(self, attempt: int = 1, longest: int | None = None) -> int:
        """Return the run time of the job in minutes, at most `longest`: what is left then continues in the next try."""
        batch, device = max(self.config.tuning.batch_sizes), clock.machine(self.config)
        seconds = sum(
            self.runs * self.steps * sum(clock.step_terms(self._shell(name), batch, device)) for name in self.sizes
        )
        minutes = (_START_MINUTES + ceil(_SLACK * seconds / 60)) * attempt
        return minutes if longest is None else min(minutes, longest)

    def _shell(self, name: Name) -> Architecture:
        return training_section(self.config).architecture(self.config.sizes[name])

    def _step_mb(self, name: Name) -> int:
        """Numbers alive in a step: what a block keeps for its backward pass, the scores of every head, the logits."""
        shell = self._shell(name)
        numbers = shell.layers * (40 * shell.width + 6 * shell.heads * shell.sequence_length) + 6 * shell.vocabulary
        return ceil(max(self.config.tuning.batch_sizes) * shell.sequence_length * numbers * 4 / 2**20)


def training(config: Config, size: Name) -> Need:
    """Return the need of one full training of a frozen variant."""
    return Need(config, (size,), config.training.steps)


def trials(config: Config) -> Need:
    """Return the need of one worker's share of a variant's tuning."""
    tuning = config.tuning
    return Need(config, (tuning.size,), tuning.steps, ceil(tuning.trials / tuning.workers))


def member(config: Config) -> Need:
    """Return the need of the training of one gallery member."""
    return Need(config, (config.gallery.size,), config.gallery.steps)


def judgement(config: Config, role: str) -> Need:
    """Return the need of judging one program as a `candidates`, `baseline` or `finalists` search spec says."""
    search = config.evolution
    seeds = {
        "candidates": search.seeds,
        "baseline": search.baseline_seeds,
        "finalists": search.finalist_seeds,
    }[role]
    return Need(config, tuple(search.sizes), config.training.steps, len(seeds), unmeasured=True)


def rescoring(config: Config) -> Need:
    """Return the need of measuring a variant's validation runs again: one pass over the shard each."""
    validation = config.validation
    return Need(config, (validation.size,), config.training.evaluate_every, len(validation.seeds))
