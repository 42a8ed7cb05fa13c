"""Loss against model size for both variants of a framework: phase `scaling`, writes scaling/{framework}.json."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evomix.artifacts import read_json, write_json
from evomix.errors import UserError
from evomix.provenance import provenance
from evomix.settings import TuningBudget
from evomix.statistics.observations import (
    Observation,
    bits,
    distrust,
    losses,
    read_observations,
    require_seeds,
    select,
)
from evomix.statistics.paired import Floats, paired_t
from evomix.statistics.power_law import power_law
from evomix.statistics.slopes import ancova, interval_of_mean, lack_of_fit, line_fits, r_squared
from evomix.streams import numpy_stream

ARMS = ("standard", "evolved")
LEVEL = 0.05
"""Intervals of the scaling law are at 1 − LEVEL; it is descriptive, so the confirmatory α does not enter here."""
SIGN = "differences are standard − evolved; positive means the evolved variant is better"


@dataclass(frozen=True)
class Grid:
    """Losses of both arms over seeds and sizes (S, K), sizes in rising order of the standard's N."""

    sizes: list[str]
    seeds: list[int]
    n: dict[str, Floats]
    loss: dict[str, Floats]
    bits: dict[str, Floats]

    @property
    def complete(self) -> list[int]:
        """Positions of seeds whose runs finished at every size in both arms."""
        finished = np.isfinite(self.loss["standard"]).all(axis=1) & np.isfinite(self.loss["evolved"]).all(axis=1)
        return [int(position) for position in np.flatnonzero(finished)]


def read_grid(observations: Sequence[Observation], framework: str, variants: tuple[str, str] = ARMS) -> Grid:
    """Lay out the observations of one framework over all sizes and seeds among them.

    UserError naming the runs that are missing from the full grid.
    """
    own = [item for item in observations if item.framework == framework and item.variant in variants]
    if not own:
        raise UserError(f"no training summary of {framework} among those given; run the workflow to train its variants")
    sizes, seeds = sorted({item.size for item in own}), sorted({item.seed for item in own})
    n: dict[str, list[int]] = {arm: [] for arm in ARMS}
    loss: dict[str, list[Floats]] = {arm: [] for arm in ARMS}
    bpb: dict[str, list[Floats]] = {arm: [] for arm in ARMS}
    for size in sizes:
        for arm, variant in zip(ARMS, variants, strict=True):
            found = select(observations, framework, variant, size)
            runs = require_seeds(found, seeds, f"{framework}/{variant} at size {size}")
            n[arm].append(runs[0].parameters)
            loss[arm].append(losses(runs))
            bpb[arm].append(bits(runs))
    order = np.argsort(n["standard"], kind="stable")
    return Grid(
        sizes=[sizes[position] for position in order],
        seeds=seeds,
        n={arm: np.array(n[arm], dtype=np.float64)[order] for arm in ARMS},
        loss={arm: np.array(loss[arm]).T[:, order] for arm in ARMS},
        bits={arm: np.array(bpb[arm]).T[:, order] for arm in ARMS},
    )


def _size_row(grid: Grid, k: int, alpha: float) -> dict[str, Any]:
    """Compare the arms at one size over the seeds whose pair finished; a diverged evolved run is never "better"."""
    standard, evolved = grid.loss["standard"][:, k], grid.loss["evolved"][:, k]
    test = paired_t((standard - evolved)[np.isfinite(standard) & np.isfinite(evolved)], alpha)
    lost = bool(np.sum(~np.isfinite(evolved)) > np.sum(~np.isfinite(standard)))
    return {
        "size": grid.sizes[k],
        "parameters": {arm: int(grid.n[arm][k]) for arm in ARMS},
        "mean": {arm: float(np.mean(v[np.isfinite(v)])) if np.isfinite(v).any() else None
                 for arm, v in (("standard", standard), ("evolved", evolved))},
        "difference": {"mean": test.mean, "ci": [test.low, test.high], "t": test.t, "df": test.df, "p": test.p},
        "better": bool(test.mean > 0) and not lost,
        "per_seed": [
            {
                "seed": seed,
                "standard": float(standard[s]),
                "evolved": float(evolved[s]),
                "difference": float(standard[s] - evolved[s]),
                "standard_bits_per_byte": float(grid.bits["standard"][s, k]),
                "evolved_bits_per_byte": float(grid.bits["evolved"][s, k]),
            }
            for s, seed in enumerate(grid.seeds)
        ],
    }  # fmt: skip


def _variant_block(grid: Grid, arm: str, variant: str, alpha: float) -> dict[str, Any]:
    loss_SK, log_n_K = grid.loss[arm][grid.complete], np.log(grid.n[arm])
    slopes, intercepts = line_fits(log_n_K, loss_SK)
    return {
        "variant": variant,
        "slope": interval_of_mean(slopes, alpha),
        "intercept": interval_of_mean(intercepts, alpha),
        "slopes_per_seed": {str(grid.seeds[s]): float(b) for s, b in zip(grid.complete, slopes, strict=True)},
        "r_squared": r_squared(log_n_K, loss_SK),
        "lack_of_fit": lack_of_fit(log_n_K, loss_SK),
    }


def _at_reference_sizes(grid: Grid, alpha: float) -> list[dict[str, Any]]:
    """Compare the fitted lines at equal N (the standard's), since an evolved variant may have other counts."""
    lines = {arm: line_fits(np.log(grid.n[arm]), grid.loss[arm][grid.complete]) for arm in ARMS}
    rows = []
    for name, n in zip(grid.sizes, grid.n["standard"], strict=True):
        at = {arm: intercepts + slopes * math.log(n) for arm, (slopes, intercepts) in lines.items()}
        row: dict[str, Any] = {arm: interval_of_mean(at[arm], alpha) for arm in ARMS}
        rows.append({"size": name, "n": int(n), **row,
                     "difference": interval_of_mean(at["standard"] - at["evolved"], alpha)})  # fmt: skip
    return rows


def _pooled(grid: Grid, alpha: float) -> dict[str, Any] | None:
    kept = grid.complete
    log_n, loss, arm_flag, cluster = [], [], [], []
    for flag, arm in enumerate(ARMS):
        for s in kept:
            log_n += list(np.log(grid.n[arm]))
            loss += list(grid.loss[arm][s])
            arm_flag += [flag] * len(grid.sizes)
            cluster += [s] * len(grid.sizes)
    centre = float(np.mean(np.log(grid.n["standard"])))
    columns = [np.array(column, dtype=np.float64) for column in (log_n, loss, arm_flag, cluster)]
    return ancova(columns[0], columns[1], columns[2], columns[3], centre=centre, alpha=alpha)


def _warnings(grid: Grid, blocks: dict[str, Any], law: dict[str, Any] | None, alpha: float) -> list[str]:
    found = []
    sizes = len(grid.sizes)
    if len(grid.complete) < len(grid.seeds):
        lost = [seed for s, seed in enumerate(grid.seeds) if s not in grid.complete]
        found.append(
            f"seeds {lost} have a diverged run and are left out of slopes and fits, not out of the per-seed table"
        )
    if sizes == 2:
        found.append("two sizes fit any line exactly: neither curvature nor R² can be judged")
    elif sizes <= 4:
        found.append(
            f"{sizes} sizes cannot tell a line in ln N from a power law with a floor: a slope difference holds only "
            "within the range of sizes measured"
        )
    for arm, block in blocks.items():
        p = block["lack_of_fit"]["p"]
        if p is not None and p < alpha:
            found.append(f"the line does not fit {arm} (lack of fit p = {p:.2g}): read losses per size, not the slope")
        if not block["slope"]["mean"] < 0:
            found.append(f"the loss of {arm} does not fall with size, so its slope says nothing about scaling")
    if law is None:
        found.append("E + A·N^−α is not fitted: it needs at least three sizes")
    elif law["unidentified_share"] > 0.05:
        found.append(
            f"in {law['unidentified_share']:.0%} of bootstrap fits the floor E and the exponent α are not told apart; "
            "both are illustrations, and so is the parameter multiplier"
        )
    return found


def analyse(
    grid: Grid, framework: str, alpha: float, variants: tuple[str, str] = ARMS, resamples: int = 1_000
) -> dict[str, Any]:
    """Return the whole scaling analysis of one framework as a JSON-able mapping (without provenance).

    `resamples` is the size of the power law's bootstrap; 0 leaves the power law out.
    """
    kept = grid.complete
    blocks = (
        {arm: _variant_block(grid, arm, variant, alpha) for arm, variant in zip(ARMS, variants, strict=True)}
        if kept
        else {}
    )
    comparison = law = None
    if kept:
        gain = line_fits(np.log(grid.n["evolved"]), grid.loss["evolved"][kept])[0]
        base = line_fits(np.log(grid.n["standard"]), grid.loss["standard"][kept])[0]
        gap = base - gain
        test = paired_t(np.where(np.abs(gap) > 1e-12 * np.abs(base), gap, 0.0), alpha)
        comparison = {
            "mean": test.mean, "ci": [test.low, test.high], "t": test.t, "df": test.df, "p": test.p,
            "meaning": "slope of standard − slope of evolved; positive: the evolved loss falls faster with size",
        }  # fmt: skip
        if resamples:
            law = power_law(
                (grid.n["standard"], grid.n["evolved"]),
                (grid.loss["standard"][kept], grid.loss["evolved"][kept]),
                alpha,
                numpy_stream(0, "scaling", framework, "bootstrap"),
                resamples,
            )
    rows = [_size_row(grid, k, alpha) for k in range(len(grid.sizes))]
    better = sum(row["better"] for row in rows)
    return {
        "framework": framework,
        "alpha": alpha,
        "sign": SIGN,
        "n": "non-embedding parameters",
        "seeds": grid.seeds,
        "complete_seeds": [grid.seeds[s] for s in kept],
        "sizes": rows,
        "better_sizes": better,
        "variants": blocks,
        "slope_comparison": comparison,
        "ancova": _pooled(grid, alpha) if kept else None,
        "reference": _at_reference_sizes(grid, alpha) if kept else [],
        "power_law": law,
        "warnings": _warnings(grid, blocks, law, alpha)
        if kept
        else ["no seed finished at every size in both variants: no scaling law"],
    }


def fit(
    framework: str,
    summaries: Sequence[Path],
    output: Path,
    *,
    preset: str | None = None,
    tuning_policy: str | None = None,
    tuning_budget: TuningBudget | None = None,
    variants: tuple[str, str] = ARMS,
    rescoring: Path | None = None,
    alpha: float = LEVEL,
) -> None:
    """Fit the scaling laws of one framework from training summaries and write `output` (schema "scaling").

    Sizes and seeds are those of the summaries; UserError when a run of the full grid is missing. `rescoring` is the
    trusted re-measurement of the evolved runs: one that confirms no loss makes the run count as diverged.
    """
    observations = read_observations(summaries)
    if rescoring is not None:
        observations = distrust(observations, framework, variants[1], read_json(rescoring, "rescoring"))
    grid = read_grid(observations, framework, variants)
    block = provenance(
        "evomix.statistics.scaling_law", preset=preset, tuning_policy=tuning_policy, tuning_budget=tuning_budget
    )
    write_json(output, "scaling", {**analyse(grid, framework, alpha, variants), "provenance": block})
