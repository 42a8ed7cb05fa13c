"""The A/A study: which byte-copies of the standard stand against each other, and what noise of their own they get.

A copy that shared every seed with the standard would be tuned, trained and measured to the same bits: difference
exactly 0, nothing learnt. So each copy's tuning trials have training seeds of their own (the design of trials stays the
same for all), and its hyper-parameters then differ by nothing but the noise that the confirmatory test claims to carry.
Final seeds stay paired within a study, as in the protocol; every further study has final seeds of its own.

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


def final_seeds(study: int, seeds: Sequence[int], all_seeds: Sequence[int]) -> list[int]:
    """Return the training seeds of a study in place of `seeds`: the same for study 1, fresh ones for the others.

    `all_seeds` holds every seed that may stand in `seeds`; studies never share one.
    """
    return [seed + (study - 1) * (max(all_seeds) + 1) for seed in seeds]


def trial_seed(seed: int, variant: str) -> int:
    """Return the training seed of a variant's tuning trials: `seed`, or for a copy one of its own derived from it."""
    return derive(seed, "aa", variant) % 2**31 if _number(variant) else seed
