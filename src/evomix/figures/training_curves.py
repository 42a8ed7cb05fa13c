"""Held-out loss during training, mean and range over the seeds, with the paired gap below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from evomix.figures import style
from evomix.figures.intervals import mean_interval
from evomix.figures.tree import Results


def _bands(curves: pd.DataFrame) -> pd.DataFrame:
    """Return mean, lowest and highest held-out loss per variant and step, over the seeds that reached the step."""
    grouped = curves.dropna(subset="held_out_loss").groupby(["variant", "step"])["held_out_loss"]
    return grouped.agg(mean="mean", lowest="min", highest="max", seeds="count").reset_index()


def _gaps(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the mean paired gap standard − evolved with its 95 % interval per step."""
    wide = curves.dropna(subset="held_out_loss").pivot(
        index=["step", "seed"], columns="variant", values="held_out_loss"
    )
    if not {"standard", "evolved"} <= set(wide.columns):
        return pd.DataFrame(columns=["step", "gap", "lower", "upper"])
    gaps = (wide["standard"] - wide["evolved"]).dropna()
    rows = [(step, *mean_interval(values)) for step, values in gaps.groupby(level="step")]
    return pd.DataFrame(rows, columns=["step", "gap", "lower", "upper"])


@style.styled()
def draw(results: Results, output: Path, framework: str) -> None:
    """Draw held-out loss (nats per token) against optimiser steps, and the paired gap with its 95 % interval."""
    curves = results.curves(framework)
    if curves.empty or curves["held_out_loss"].isna().all():
        return style.save(style.notice("No training has reached its first evaluation."), output, curves)
    bands, gaps = _bands(curves), _gaps(curves)
    figure = style.canvas(style.COLUMN, 3.2 if len(gaps) else 2.4)
    panels = figure.subplots(
        2 if len(gaps) else 1, 1, sharex=True, squeeze=False, height_ratios=[2, 1][: 1 + bool(len(gaps))]
    )
    upper = panels[0, 0]
    for variant in (name for name in style.VARIANT_COLOUR if name in set(bands["variant"])):
        band = bands[bands["variant"] == variant]
        colour = style.VARIANT_COLOUR[variant]
        label = f"{results.pair(framework)[variant]} (n = {band['seeds'].max()})"
        upper.fill_between(band["step"], band["lowest"], band["highest"], color=colour, alpha=0.2, linewidth=0)
        upper.plot(band["step"], band["mean"], color=colour, linestyle=style.VARIANT_LINE[variant], label=label)
    start, end = bands["mean"].max(), bands["mean"].min()
    late = bands.loc[bands["step"] >= 0.1 * bands["step"].max(), "highest"].max()
    if start - end > 2 * (late - end) > 0:
        upper.set_ylim(bands["lowest"].min() - 0.05 * (late - end), late + 0.15 * (late - end))
    upper.set_ylabel("held-out loss\n(nats/token)")
    style.legend_above(upper, 2, handlelength=2.6)
    if len(gaps):
        lower = panels[1, 0]
        lower.axhline(0, color=style.INK, linewidth=0.7)
        lower.fill_between(
            gaps["step"], 1_000 * gaps["lower"], 1_000 * gaps["upper"], color=style.INK, alpha=0.15, linewidth=0
        )
        lower.plot(gaps["step"], 1_000 * gaps["gap"], color=style.INK)
        tail = gaps[gaps["step"] >= 0.1 * gaps["step"].max()]
        bound = 1_150 * float(np.nanmax(np.abs(tail[["gap", "lower", "upper"]].to_numpy(float))))
        if bound > 0:
            lower.set_ylim(-bound, bound)
        lower.set_ylabel("gain (10⁻³ nats,\n95 % CI)")
    panels[-1, 0].set_xlabel("optimiser steps")
    style.save(figure, output, bands.merge(gaps, on="step", how="left"))
