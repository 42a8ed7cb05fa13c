"""What a study trains, counted from its config alone: one group per rule and size.

A search may stop earlier, refuse candidates without training them, or meet one again: the counts are what the config
allows at most. A test compares them with the jobs of the workflow's own dry run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import mean

from evomix.config import Config
from evomix.sections import training_section
from evomix.specs import Architecture


@dataclass(frozen=True)
class Trainings:
    """Equal trainings of one rule: how many, at which size (a name for readers), steps each, sequences per step."""

    rule: str
    count: int
    size: str
    steps: int
    batch: float
    shell: Architecture

    @property
    def total_steps(self) -> int:
        """Optimiser steps of all of them."""
        return self.count * self.steps


def _runs(config: Config, framework: str) -> dict[str, int]:
    """Return size → number of full trainings of the frozen variants of a framework."""
    pair = config.validation.pair(framework)
    wanted = {(config.validation.size, seed, variant) for seed in config.validation.seeds for variant in pair}
    wanted |= {(config.validation.size, seed, "evolved") for seed in config.validation.seeds}
    wanted |= {
        (size, seed, variant) for size in config.scaling.sizes for seed in config.scaling.seeds for variant in pair
    }
    return {size: sum(item[0] == size for item in wanted) for size in sorted({item[0] for item in wanted})}


def _probes(config: Config) -> list[Trainings]:
    """Return the trainings of the probes, both variants of every framework."""
    from evomix.probes.tasks import architecture  # here alone: the Snakefile reads the clock beside it and stays light

    probes, found = config.probes, list[Trainings]()
    for task in probes.tasks:
        shell = architecture(probes, task)
        count = 2 * len(config.frameworks) * len(probes.seeds)
        found.append(Trainings("run_probes", count, task.name, probes.steps, probes.batch_size, shell))
    return found


def trainings(config: Config) -> list[Trainings]:
    """Return the trainings of `snakemake all` in the order of the phases, without groups of none.

    The batch size of a full training is tuned; here it is the mean of the choices, which trials meet on average.
    """
    search, tuning, steps = config.evolution, config.tuning, config.training.steps
    batch = mean(tuning.batch_sizes)
    arms, found = len(search.arms), list[Trainings]()

    def add(rule: str, counts: dict[str, int], steps: int) -> None:
        for size, count in counts.items():
            shape = config.sizes[size]
            shell = training_section(config).architecture(shape)
            found.append(Trainings(rule, count, size, steps, batch, shell))

    for framework in config.frameworks:
        pair = config.validation.pair(framework)
        tuned = {"standard"} | ({*pair, "evolved"} if tuning.policy == "joint" else set())
        add("run_trials", {tuning.size: len(tuned) * tuning.trials}, tuning.steps)
        seeds = {
            "evaluate_standard": len(search.baseline_seeds) + len(search.finalist_seeds),
            "evaluate_member": len(search.seed_members.get(framework, [])) * len(search.seeds),
            "evaluate": arms * search.iterations * len(search.seeds),
            "rerank": arms * search.finalists * len(search.finalist_seeds),
        }
        for rule, count in seeds.items():
            add(rule, dict.fromkeys(search.sizes, count), steps)
        add("train", _runs(config, framework), steps)
        ablation = config.ablation
        seeds_each = len(config.validation.seeds[: ablation.seeds])
        count = ablation.edits * (1 + ablation.add_alone) * seeds_each
        add("train_edits", {config.validation.size: count}, steps)
    found += _probes(config)
    merged: dict[tuple[str, str], Trainings] = {}
    for item in found:
        before = merged.get((item.rule, item.size))
        merged[item.rule, item.size] = replace(item, count=item.count + (before.count if before else 0))
    return [item for item in merged.values() if item.count]


def candidates(config: Config) -> tuple[int, int]:
    """Return (arms that ask a language model, over all frameworks; candidates of each)."""
    asking = sum(arm != "random" for arm in config.evolution.arms) * len(config.frameworks)
    return (asking if config.evolution.llm.provider == "openai" else 0), config.evolution.iterations
