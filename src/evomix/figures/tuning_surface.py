"""Tuning of both variants: every trial against its learning rate, the fitted surface, and what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from evomix.figures import style
from evomix.figures.tree import Results
from evomix.settings import Tuning
from evomix.tuning import surface
from evomix.tuning.search_space import Dimension, coordinates, dimensions

SHADES = (style.SKY, style.BLUE, style.GREEN, style.PURPLE)
MARKERS = ("o", "s", "^", "v")


def _surface(axes: Axes, trials: pd.DataFrame, best: dict[str, Any], space: tuple[Dimension, ...]) -> None:
    """Fit the surface as the choice did, and draw it along the learning rate with everything else as chosen."""
    finished = trials[trials["loss"].notna()]
    rows = [{str(name): value for name, value in row.items()} for row in finished.to_dict("records")]
    active = tuple(index for index, item in enumerate(space) if item.active)
    fitted = surface.fit(coordinates(space, rows), finished["loss"].to_numpy(float), active)
    points = np.repeat(coordinates(space, [best["chosen"]]), 81, axis=0)
    points[:, 0] = np.linspace(-1, 1, 81)
    expected, error = fitted.predict(points)
    x = np.geomspace(space[0].low, space[0].high, 81)
    axes.fill_between(x, expected - error, expected + error, color=style.INK, alpha=0.12, linewidth=0)
    axes.plot(x, expected, color=style.INK, linewidth=1, label="fitted surface, ± 1 SE")


def _panel(axes: Axes, trials: pd.DataFrame, best: dict[str, Any], space: tuple[Dimension, ...]) -> None:
    sizes = sorted(trials["batch_size"].unique())
    for place, size in enumerate(sizes):
        rows = trials[(trials["batch_size"] == size) & trials["loss"].notna()]
        label, colour = f"trial, batch {size}", SHADES[place % 4]
        axes.plot(rows["learning_rate"], rows["loss"], MARKERS[place % 4], color=colour, label=label)
    lost = trials.loc[trials["loss"].isna(), "learning_rate"]
    if len(lost):
        height = np.full(len(lost), 0.97)
        axes.plot(lost, height, "x", color=style.RED, transform=axes.get_xaxis_transform(), label="diverged trial")
    if space[0].active:
        _surface(axes, trials, best, space)
        span = best["possible"].get("learning_rate")
        if span:
            axes.axvspan(*span, color=style.ORANGE, alpha=0.13, linewidth=0, label="optimum, middle 90 %")
    lucky, chosen, expected = best["luckiest"], best["chosen"], best["predicted"]
    axes.plot(
        lucky["learning_rate"], lucky["loss"], "o", color=style.RED, fillstyle="none", markersize=8, label="luckiest"
    )
    axes.errorbar(
        chosen["learning_rate"],
        expected["loss"],
        expected["standard_error"],
        fmt="D",
        color=style.ORANGE,
        capsize=2,
        markersize=5,
        zorder=4,
        label="chosen, ± 1 SE",
    )


@style.styled()
def draw(results: Results, output: Path, framework: str) -> None:
    """Draw final loss of every trial (nats per token) against its learning rate (log axis), one panel per variant."""
    folder = f"tuning/{framework}"
    found: dict[str, tuple[pd.DataFrame, dict[str, Any]]] = {}
    for variant in results.tuned(framework):
        trials, best = (
            results.table(f"{folder}/{variant}/trials.parquet"),
            results.json(f"{folder}/{variant}/best.json"),
        )
        if trials is not None and best is not None:
            found[variant] = (trials, best)
    section = results.section("tuning")
    if not found or not section:
        return style.save(style.notice("No variant has been tuned."), output, pd.DataFrame())
    space = dimensions(Tuning.model_validate(section))
    figure = style.canvas(style.PAGE, 2.7)
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (variant, (trials, best)) in zip(panels, found.items(), strict=True):
        _panel(axes, trials, best, space)
        axes.set_title(f"{variant}: {best['trials']['finished']} of {best['trials']['planned']} trials finished")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("peak learning rate (log scale)")
    panels[0].set_ylabel("loss of the trial (nats/token)")
    signs = {label: sign for axes in panels for sign, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(list(signs.values()), list(signs), loc="outside lower center", ncols=4, columnspacing=1.2)
    data = pd.concat([trials.assign(variant=variant) for variant, (trials, _) in found.items()], ignore_index=True)
    kept = ["variant", "number", "learning_rate", "warmup_steps", "weight_decay", "batch_size", "loss", "predicted"]
    style.save(figure, output, data[kept])
