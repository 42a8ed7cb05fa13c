"""What the tuning's own noise adds to the comparison: the choice of hyper-parameters is an error that all seeds share.

Two variants that are equally good at their best hyper-parameters differ by their regrets, and seeds cannot average that
away: a paired t over seeds alone then rejects too often (calibration.json shows by how much). It is counted also where
one choice serves both (see `evomix.tuning.sharing`), as it may suit one of them better. The budgets of the tunings,
which must be equal, are read here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evomix.artifacts import read_json
from evomix.errors import UserError
from evomix.settings import TuningBudget

REGRET_SHARE = 0.2
"""Variance of a choice's regret over the square of the regret its response surface expects.

Registered in PROTOCOL.md. The surface's expectation is cautious (its prior is wide): in simulated tunings of 8 to 100
trials the share that makes the variance right is .09 to .33.
"""

_ACCOUNT = ("chosen", "reference", "at_edge", "trials", "spent_steps", "expected_regret")

CLAIM_TRIALS = 40
"""Finished trials that either tuning needs before a difference is claimed.

Registered in PROTOCOL.md: with 8 and with 20, real A/A studies made false claims (docs/calibration.md). Below the 50 of
the protocol, so that a few failed trials void nothing.
"""


def variance(regrets: list[float]) -> float:
    """Return the variance (nats²) that the tunings of the compared variants add to the mean difference."""
    return REGRET_SHARE * sum(regret**2 for regret in regrets)


def expected_regrets(tunings: Mapping[str, Path], policy: str | None) -> dict[str, float] | None:
    """Return the expected regret (nats per token) of each variant's tuning, read from its best.json by arm.

    None under policy `shared` or without tunings: hyper-parameters chosen once are no noise between the variants.
    """
    if policy == "shared" or not tunings:
        return None
    return {arm: float(read_json(path, "tuning")["expected_regret"]) for arm, path in tunings.items()}


def accounts(tunings: Mapping[str, Path], budget: TuningBudget | None) -> dict[str, dict[str, Any]]:
    """Return what each arm's tuning chose and spent, read from its best.json by arm.

    UserError when one had another budget than `budget` (None: not compared): variants are tuned with equal budgets.
    """
    found = {}
    for arm, path in tunings.items():
        best = read_json(path, "tuning")
        if budget is not None and best["budget"] != budget.model_dump():
            had = ", ".join(f"{key} {value}" for key, value in best["budget"].items())
            raise UserError(f"{path} was tuned with another budget ({had}); delete it and run the workflow again")
        found[arm] = {key: best[key] for key in _ACCOUNT}
    return found


def fewest(tunings: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the number of finished trials of the poorest tuning, from `accounts`."""
    return min(int(tuning["trials"]["finished"]) for tuning in tunings.values())
