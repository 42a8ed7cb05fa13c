"""Final losses of trainings, read from their summaries and laid out as pairs over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evomix.artifacts import read_json
from evomix.copies import paired_seed
from evomix.errors import UserError
from evomix.statistics.paired import Floats

FIELDS = (
    "framework", "variant", "size", "seed", "status", "loss", "bits_per_byte", "parameters", "flops_per_token", "steps"
)  # fmt: skip


@dataclass(frozen=True)
class Observation:
    """One training: losses in nats per token and bits per byte, both NaN when it diverged; `steps` that it finished.

    `subset` holds the rows of the curve's subset and the final loss on them.
    """

    framework: str
    variant: str
    size: str
    seed: int
    status: str
    loss: float
    bits_per_byte: float
    parameters: int
    total_parameters: int
    flops_per_token: float
    steps: int
    subset: tuple[int, float] | None = None


def observation(summary: dict[str, Any], where: str) -> Observation:
    """Return the observation of one training summary; UserError naming the file and the field when one is missing."""
    for field in FIELDS:
        if field not in summary:
            raise UserError(f"{where} has no field `{field}`; delete it and run the training again")
    try:
        return _observation(summary)
    except (TypeError, ValueError):
        raise UserError(f"{where} holds a loss or a count that is no number; run the training again") from None


def _observation(summary: dict[str, Any]) -> Observation:
    finished = summary["status"] == "finished" and summary["loss"] is not None and math.isfinite(summary["loss"])
    bits, subset = summary["bits_per_byte"], summary.get("subset")
    return Observation(
        framework=summary["framework"],
        variant=summary["variant"],
        size=summary["size"],
        seed=paired_seed(int(summary["seed"])),
        status="finished" if finished else "diverged",
        loss=float(summary["loss"]) if finished else math.nan,
        bits_per_byte=float(bits) if finished and bits is not None else math.nan,
        parameters=int(summary["parameters"]["non_embedding"]),
        total_parameters=int(summary["parameters"]["total"]),
        flops_per_token=float(summary["flops_per_token"]),
        steps=int(summary["steps"]),
        subset=(int(subset["rows"]), float(subset["loss"])) if finished and subset else None,
    )


def distrust(
    observations: Iterable[Observation], framework: str, variant: str, rescoring: dict[str, Any]
) -> list[Observation]:
    """Return the observations with runs of a variant marked `untrusted`, without a loss, where re-measuring failed."""
    refuted = {(run["size"], paired_seed(run["seed"])) for run in rescoring["runs"] if not run["passed"]}
    return [
        replace(item, status="untrusted", loss=math.nan, bits_per_byte=math.nan)
        if (item.framework, item.variant) == (framework, variant) and (item.size, item.seed) in refuted
        else item
        for item in observations
    ]


def read_observations(summaries: Iterable[Path]) -> list[Observation]:
    """Read training summaries (schema "training")."""
    return [observation(read_json(path, "training"), str(path)) for path in summaries]


def select(observations: Sequence[Observation], framework: str, variant: str, size: str) -> dict[int, Observation]:
    """Return the observations of one framework, variant and size by seed; UserError when a seed stands there twice."""
    found: dict[int, Observation] = {}
    for item in observations:
        if (item.framework, item.variant, item.size) == (framework, variant, size):
            if item.seed in found:
                raise UserError(
                    f"seed {item.seed} of {framework}/{variant} at size {size} was given twice; pass each run once"
                )
            found[item.seed] = item
    return found


def require_seeds(found: dict[int, Observation], seeds: Sequence[int], label: str) -> list[Observation]:
    """Return the observations of `seeds` in order; UserError naming the seeds that are missing."""
    missing = [seed for seed in seeds if seed not in found]
    if missing:
        raise UserError(f"no training summary of {label} for seeds {missing}; run the workflow to train them")
    return [found[seed] for seed in seeds]


def losses(observations: Sequence[Observation]) -> Floats:
    """Return final losses in nats per token, shape (n,), NaN where the run diverged."""
    return np.array([item.loss for item in observations], dtype=np.float64)


def bits(observations: Sequence[Observation]) -> Floats:
    """Return final losses in bits per byte, shape (n,), NaN where the run diverged."""
    return np.array([item.bits_per_byte for item in observations], dtype=np.float64)
