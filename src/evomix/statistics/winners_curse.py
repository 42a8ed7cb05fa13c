"""The winner's curse of a search: how much its best candidate flatters itself, and what an honest claim keeps.

Legend: S simulated searches, C candidates.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from evomix.statistics.paired import Floats, paired_t


def simulate_search(
    rng: np.random.Generator,
    *,
    searches: int,
    candidates: int,
    finalists: int,
    finalist_seeds: int,
    seeds: int,
    noise: float,
    spread: float = 0.0,
) -> dict[str, Floats]:
    """Simulate searches as the protocol runs them and return gains at each stage, each of shape (S,).

    Candidates have true gains N(0, spread²); one search seed ranks them, the best `finalists` are ranked anew on fresh
    seeds, the winner is frozen and measured on `seeds` fresh paired seeds. `noise` is the spread of one paired
    difference. `naive` skips the re-ranking and the fresh seeds: it claims what the search measured.
    """
    truth_SC = spread * rng.normal(size=(searches, candidates))
    search_SC = truth_SC + noise * rng.normal(size=truth_SC.shape)
    rows = np.arange(searches)
    luckiest = np.argmax(search_SC, axis=1)
    best_SF = np.argsort(-search_SC, axis=1)[:, :finalists]
    fresh_SF = np.take_along_axis(truth_SC, best_SF, axis=1)
    selection_SF = fresh_SF + noise / math.sqrt(finalist_seeds) * rng.normal(size=fresh_SF.shape)
    chosen = best_SF[rows, np.argmax(selection_SF, axis=1)]
    claim_Sn = truth_SC[rows, chosen][:, None] + noise * rng.normal(size=(searches, seeds))
    return {
        "naive": search_SC[rows, luckiest],
        "naive_truth": truth_SC[rows, luckiest],
        "selection": selection_SF.max(axis=1),
        "claim": claim_Sn.mean(axis=1),
        "truth": truth_SC[rows, chosen],
        "claim_t_p": np.array([paired_t(row).p for row in claim_Sn]),
    }


def optimism(selection: dict[str, Any], validation: float) -> dict[str, Any]:
    """Return the gain of the frozen winner (nats per token) as search, re-ranking and validation saw it.

    `selection` is a selection.json, `validation` the mean paired difference. What melted away between stages is the
    winner's curse, apart from the difference between the search's mean over sizes and the validation's one size.
    """
    chosen = selection["chosen"]
    if not chosen:
        return {"found": False, "reason": selection["reason"]}
    return {
        "found": True,
        "search": chosen["search_gain"],
        "selection": chosen["gain"],
        "validation": validation,
        "search_optimism": chosen["search_gain"] - validation,
        "selection_optimism": chosen["gain"] - validation,
    }
