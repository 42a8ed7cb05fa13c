"""Fitness over the iterations of a search, every arm with its best-so-far trajectory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from evomix.figures import style
from evomix.figures.naming import words
from evomix.figures.search import Reference, by_arm, reference
from evomix.figures.tree import Results


def _standard(axes: Axes, standard: Reference) -> None:
    axes.axhline(standard.fitness, color=style.BLUE, linestyle=style.VARIANT_LINE["standard"], linewidth=1)
    low, high = (standard.fitness + sign * 2 * standard.fitness_sd for sign in (-1, 1))
    if np.isfinite(standard.fitness_sd):
        axes.axhspan(low, high, color=style.BLUE, alpha=0.12, linewidth=0, label="standard, ± 2 SD")


def _trajectory(frame: pd.DataFrame, start: float) -> pd.Series:
    """Return the best fitness up to each candidate, beginning at the standard's."""
    return frame["fitness"].fillna(-np.inf).cummax().clip(lower=start)


@style.styled()
def draw(results: Results, output: Path, framework: str) -> None:
    """Draw the fitness of every candidate against its number, best so far as a step line, failures as crosses below."""
    arms, standard = by_arm(results, framework), reference(results, framework)
    if not arms or standard is None:
        return style.save(style.notice("No candidate has been evaluated."), output, pd.DataFrame())
    figure = style.canvas(style.COLUMN, 2.7)
    axes = figure.subplots()
    _standard(axes, standard)
    lost_label: str | None = "not accepted"
    for row, (arm, frame) in enumerate(arms.items()):
        colour, marker = style.ARM_COLOUR[arm], style.ARM_MARKER[arm]
        best = _trajectory(frame, standard.fitness)
        steps = np.r_[0, frame["iteration"]]
        axes.step(steps, np.r_[standard.fitness, best], where="post", color=colour, label=f"{words(arm)}: best so far")
        axes.plot(frame["iteration"], frame["fitness"], marker, color=colour, markersize=3, alpha=0.75)
        lost = frame.loc[frame["fitness"].isna(), "iteration"]
        if len(lost):
            height = np.full(len(lost), 0.03 + 0.05 * row)
            place = axes.get_xaxis_transform()
            axes.plot(lost, height, "x", color=colour, markersize=3.5, transform=place, label=lost_label)
            lost_label = None  # once in the legend
    low, high = axes.get_ylim()
    axes.set_ylim(low - (0.05 + 0.06 * len(arms)) * (high - low), high)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.set_xlabel("candidate")
    axes.set_ylabel(standard.fitness_label)
    style.legend_above(axes, 2)
    style.save(figure, output, pd.concat(arms.values(), ignore_index=True))
