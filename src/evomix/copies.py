"""The A/A study: which byte-copies of the standard stand against each other, and what noise of their own they get.

A copy that shared every seed with the standard would be tuned, trained and measured to the same bits: difference
exactly 0, nothing learnt. So each copy's trials and final trainings have seeds of their own (the design of trials stays
the same for all): nothing but the noise that the confirmatory test claims to carry makes it differ. Its final seeds
are paired with the standard's by position.

Imports nothing heavy: the Snakefile asks this in every job.
"""

from __future__ import annotations

from collections.abc import Sequence

from evomix.streams import derive

PATTERN = r"copy[1-9]\d*"
"""What a copy is called: copy1, copy2, …"""


def pair(study: int) -> tuple[str, str]:
    """Return the variants of a study, numbered from 1: the standard and copy1, then copy2 and copy3, …"""
    return ("standard" if study == 1 else f"copy{2 * study - 2}"), f"copy{2 * study - 1}"


def study_of(variant: str) -> int:
    """Return the study that trains a variant: 1 for all that are not copies."""
    return 1 + _number(variant) // 2


def _number(variant: str) -> int:
    return int(variant.removeprefix("copy")) if variant.startswith("copy") else 0


SEEDS = 10**9
"""Seeds of a config are below this; those of a copy's final trainings lie above, each copy's in a range of its own."""


def final_seeds(variant: str, seeds: Sequence[int]) -> list[int]:
    """Return the seeds of a variant's final trainings in place of the config's `seeds`: a copy has its own."""
    return [seed + SEEDS * _number(variant) for seed in seeds]


def paired_seed(seed: int) -> int:
    """Return the config's seed that a final seed stands for: it says which runs make a pair."""
    return seed % SEEDS


def trial_seed(seed: int, variant: str) -> int:
    """Return the training seed of a variant's tuning trials: `seed`, or for a copy one of its own derived from it."""
    return derive(seed, "aa", variant) % 2**31 if _number(variant) else seed
