"""Tuning of both variants: every trial against its learning rate, the fitted surface, and what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from evomix.config import Tuning
from evomix.figures import style
from evomix.figures.catalogue import VARIANTS
from evomix.figures.tree import Results
from evomix.tuning.search_space import Dimension, dimensions

SHADES = (style.SKY, style.BLUE, style.GREEN, style.PURPLE)
MARKERS = ("o", "s", "^", "v")


def curve(coefficients: dict[str, float], points: dict[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Evaluate a tuning's surface, as best.json describes it, at coordinates in [−1, 1] per hyper-parameter.

    A term is a product of coordinates; the square of one stands for the Legendre polynomial (3u² − 1)/2.
    """
    total = np.zeros_like(next(iter(points.values())))
    for term, coefficient in coefficients.items():
        names = [] if term == "constant" else term.split(" × ")
        value = np.prod([points[name] for name in names], axis=0) if names else np.ones_like(total)
        total = total + coefficient * ((3 * value - 1) / 2 if len(names) == 2 and names[0] == names[1] else value)
    return total


def _surface(axes: Axes, best: dict[str, Any], space: tuple[Dimension, ...]) -> None:
    """Draw the surface along the learning rate, everything else as chosen."""
    rate = space[0]
    places = np.linspace(-1, 1, 81)
    points = {item.name: np.full(81, item.coordinate(best["chosen"][item.name])) for item in space}
    points[rate.name] = places
    x = np.exp(np.interp(places, [-1, 1], np.log([rate.low, rate.high])))
    axes.plot(x, curve(best["surface"]["coefficients"], points), color=style.INK, linewidth=1, label="fitted surface")


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
        _surface(axes, best, space)
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
    for variant in VARIANTS:
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
