"""The arms of a search against each other: fitness of every candidate, the frozen one on fresh seeds, and outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from evomix.figures import style
from evomix.figures.naming import words
from evomix.figures.search import Reference, by_arm, reference
from evomix.figures.tree import Results

OUTCOMES = {"accepted": style.BLUE, "refused": style.YELLOW, "failed": style.RED, "diverged": style.PURPLE}
HATCHES = {"accepted": "", "refused": "////", "failed": "xxxx", "diverged": "...."}


def _fresh(results: Results, framework: str, arm: str) -> tuple[float, float]:
    """Return fitness of the frozen candidate and of the standard on the finalists' fresh seeds, NaN where missing."""
    chosen = (results.json(f"evolution/{framework}/{arm}/selection.json") or {}).get("chosen") or {}
    pair = chosen.get("fitness"), (chosen.get("standard") or {}).get("fitness")
    own, standard = (float("nan") if value is None else float(value) for value in pair)
    return own, standard


def _scores(axes: Axes, frame: pd.DataFrame, fresh: dict[str, tuple[float, float]], standard: Reference) -> None:
    """Draw a dot per accepted candidate, arm by arm, and what became of the frozen one."""
    order = list(fresh)
    if np.isfinite(standard.fitness_sd):
        low, high = (standard.fitness + sign * 2 * standard.fitness_sd for sign in (-1, 1))
        axes.axvspan(low, high, color=style.BLUE, alpha=0.12, linewidth=0, label="standard in the search, ± 2 SD")
    axes.axvline(standard.fitness, color=style.BLUE, linestyle=style.VARIANT_LINE["standard"], linewidth=1)
    seaborn.swarmplot(
        frame.dropna(subset="fitness"),
        x="fitness",
        y="arm",
        hue="arm",
        order=order,
        hue_order=order,
        palette=style.ARM_COLOUR,
        size=2.6,
        legend=False,
        warn_thresh=1,
        ax=axes,
    )
    places = np.arange(len(order))
    own, base = (np.array([fresh[arm][index] for arm in order]) for index in (0, 1))
    axes.plot(base, places, "|", color=style.BLUE, markersize=11, markeredgewidth=1.6, label="standard, fresh seeds")
    frozen: dict[str, Any] = {"color": "white", "markeredgecolor": style.INK, "markersize": 5, "zorder": 5}
    axes.plot(own, places, "D", label="frozen one, fresh seeds", **frozen)
    axes.set_yticks(places, [words(arm) for arm in order])
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_ylabel("")
    axes.set_xlabel(f"{standard.fitness_label}, right is better")


def _outcomes(axes: Axes, frame: pd.DataFrame, order: list[str]) -> None:
    """Draw how many candidates of each arm came through."""
    counts = frame.groupby("arm")["status"].value_counts().unstack(fill_value=0).reindex(order)
    left = np.zeros(len(order))
    for outcome, colour in OUTCOMES.items():
        if outcome in counts:
            values = counts[outcome].to_numpy(float)
            axes.barh(
                range(len(order)), values, left=left, height=0.6, color=colour, alpha=0.75, label=outcome,
                hatch=HATCHES[outcome], edgecolor="white", linewidth=0.5,
            )  # fmt: skip
            left += values
    axes.set_yticks(range(len(order)), [words(arm) for arm in order])
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlabel("candidates")
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2, columnspacing=1, handlelength=1.2)


@style.styled()
def draw(results: Results, output: Path, framework: str) -> None:
    """Draw the fitness of all accepted candidates per arm, and below it how many were accepted, refused and failed."""
    arms, standard = by_arm(results, framework), reference(results, framework)
    if not arms or standard is None:
        return style.save(style.notice("No candidate has been evaluated."), output, pd.DataFrame())
    frame = pd.concat(arms.values(), ignore_index=True)
    fresh = {arm: _fresh(results, framework, arm) for arm in arms}
    figure = style.canvas(style.COLUMN, 1.75 + 0.65 * len(arms))
    upper, lower = figure.subplots(2, 1, height_ratios=[1.6, 1])
    for axes in (upper, lower):
        axes.grid(axis="y", visible=False)
    _scores(upper, frame, fresh, standard)
    _outcomes(lower, frame, list(arms))
    style.legend_above(upper, 2)
    told = pd.DataFrame([{"arm": arm, "fresh": own, "fresh_standard": base} for arm, (own, base) in fresh.items()])
    style.save(figure, output, frame.merge(told, on="arm", how="left"))
