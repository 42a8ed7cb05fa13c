"""Would a short proxy have chosen another winner? Ranks of candidates early in training against their final ranks.

Phase `horizon`: reads the curves of all candidates of a search, writes horizon JSON and the data of its figure.
Legend: C candidates, F fractions of the training; lower loss is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evomix.artifacts import read_table, write_json
from evomix.errors import UserError
from evomix.provenance import provenance
from evomix.statistics.paired import Floats
from evomix.streams import numpy_stream

FRACTIONS = (0.02, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90)
RESAMPLES = 1_000


def mid_ranks(values: Floats) -> Floats:
    """Return ranks along the last axis, ties sharing their mean rank."""
    below = (values[..., None, :] < values[..., :, None]).sum(axis=-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(axis=-1)
    ranks: Floats = below + (equal + 1) / 2
    return ranks


def spearman(first: Floats, second: Floats) -> Floats:
    """Return Spearman's rank correlation along the last axis; NaN where a side has no spread."""
    a, b = mid_ranks(first), mid_ranks(second)
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    spread = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        rho: Floats = np.where(spread > 0, (a * b).sum(axis=-1) / spread, np.nan)
    return rho


def pairwise_agreement(early: Floats, final: Floats) -> Floats:
    """Return the share of pairs, different at the end, whose order early on is the final one (a tie counts half)."""
    upper = np.triu_indices(early.shape[-1], 1)
    early_sign = np.sign(early[..., upper[0]] - early[..., upper[1]])
    final_sign = np.sign(final[..., upper[0]] - final[..., upper[1]])
    differ = final_sign != 0
    with np.errstate(invalid="ignore", divide="ignore"):
        agree: Floats = ((1 + early_sign * final_sign) / 2 * differ).sum(axis=-1) / differ.sum(axis=-1)
    return agree


def top_overlap(early: Floats, final: Floats, k: int) -> Floats:
    """Return the share of the final best k that are among the early best k (ties broken by position)."""
    best_early = np.argsort(early, axis=-1, kind="stable")[..., :k]
    best_final = np.argsort(final, axis=-1, kind="stable")[..., :k]
    share: Floats = (best_early[..., :, None] == best_final[..., None, :]).any(axis=-1).mean(axis=-1)
    return share


def loss_at(steps: Floats, losses: Floats, step: float) -> float:
    """Return the last measured loss at or before `step` (NaN before the first measurement)."""
    measured = np.isfinite(losses) & (steps <= step)
    return float(losses[measured][-1]) if measured.any() else math.nan


def loss_at_end(steps: Floats, losses: Floats, last: float) -> float:
    """Return the loss measured at step `last`; NaN when the curve ends before it (the run diverged)."""
    return float(losses[-1]) if len(steps) and steps[-1] >= last else math.nan


def agreement(early: Floats, final: Floats, k: int, rng: np.random.Generator, alpha: float) -> dict[str, Any]:
    """Compare early with final losses, shape (C,), with percentile intervals from a bootstrap over candidates."""
    count = len(final)
    draws = rng.integers(0, count, size=(RESAMPLES, count))
    measures = {
        "spearman": (spearman(early, final), spearman(early[draws], final[draws])),
        "pairwise": (pairwise_agreement(early, final), pairwise_agreement(early[draws], final[draws])),
        "top_k": (top_overlap(early, final, k), top_overlap(early[draws], final[draws], k)),
    }
    found: dict[str, Any] = {}
    for name, (estimate, resampled) in measures.items():
        kept = resampled[np.isfinite(resampled)]
        bounds = [float(np.quantile(kept, q)) for q in (alpha / 2, 1 - alpha / 2)] if len(kept) else [None, None]
        found[name] = {"estimate": float(estimate), "ci": bounds}
    winner = int(np.argmin(early))
    return {
        **found,
        "same_winner": winner == int(np.argmin(final)),
        "regret": float(final[winner] - final.min()),
    }


def analyse(
    curves: Mapping[str, tuple[Floats, Floats]], *, k: int = 3, alpha: float = 0.05, name: str = "all"
) -> dict[str, Any]:
    """Analyse curves {candidate: (steps, held-out losses)}; losses are NaN between evaluations.

    A fraction at which a candidate has no measurement yet is reported as such. Candidates without a final
    loss (diverged) are left out and counted.
    """
    names = sorted(curves)
    last = max((float(curves[item][0].max()) for item in names if len(curves[item][0])), default=0.0)
    final_by_name = {item: loss_at_end(*curves[item], last) for item in names}
    kept = [item for item in names if math.isfinite(final_by_name[item])]
    final = np.array([final_by_name[item] for item in kept])
    k = min(k, len(kept))
    rows: list[dict[str, Any]] = []
    for fraction in FRACTIONS:
        early = np.array([loss_at(*curves[item], fraction * last) for item in kept])
        row: dict[str, Any] = {"fraction": fraction, "step": fraction * last, "early": [float(loss) for loss in early]}
        if len(kept) >= 3 and np.isfinite(early).all():
            row |= agreement(early, final, k, numpy_stream(0, "horizon", name, str(fraction)), alpha)
        rows.append(row)
    warnings = []
    if len(kept) < 10:
        warnings.append(f"{len(kept)} candidates finished: rank agreement of so few says little")
    unmeasured = [f"{row['fraction']:.0%}" for row in rows if "spearman" not in row]
    if unmeasured and len(kept) >= 3:
        warnings.append(
            f"no held-out loss yet at {', '.join(unmeasured)}: lower training.evaluate_every to see earlier"
        )
    return {
        "candidates": kept,
        "left_out": [item for item in names if item not in kept],
        "final": [float(loss) for loss in final],
        "k": k,
        "alpha": alpha,
        "fractions": rows,
        "warnings": warnings,
    }


def horizon(curves: Sequence[Path], names: Sequence[str], output: Path, **labels: Any) -> None:
    """Read candidates' curve.parquet files and write `output` (schema "horizon").

    `names` name the curves in order, `labels` are those of `provenance`; UserError when their
    number differs or one stands twice.
    """
    if len(curves) != len(names) or len(set(names)) != len(names):
        raise UserError(f"{len(curves)} curves need as many different names, got {len(names)}; pass one name per curve")
    tables = {name: read_table(path) for name, path in zip(names, curves, strict=True)}
    read = {
        name: (
            table["step"].to_numpy(dtype=np.float64),
            table["held_out_loss"].to_numpy(dtype=np.float64, na_value=np.nan),
        )
        for name, table in tables.items()
    }
    block = provenance("evomix.statistics.horizon", **labels)
    write_json(output, "horizon", {**analyse(read), "provenance": block})
