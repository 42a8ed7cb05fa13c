"""Calibration of the analysis on simulated studies: error rates against their level, p-values, power."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from evomix.figures import style
from evomix.figures.tree import Results


def _rates(axes: Axes, rows: list[dict[str, Any]], alpha: float) -> None:
    for place, row in enumerate(rows):
        low, high = row["ci"]
        held = row["verdict"] != "broken"
        colour = style.MUTED if row["verdict"] is None else style.BLUE if held else style.RED
        error = [[row["estimate"] - low], [high - row["estimate"]]]
        axes.errorbar(row["estimate"], -place, xerr=error, fmt="o" if held else "X", color=colour, capsize=2)
    axes.axvline(alpha, color=style.INK, linestyle=":", linewidth=1)
    axes.set_yticks([-place for place in range(len(rows))], [row["name"] for row in rows], fontsize=6.5)
    axes.set_ylim(0.6 - len(rows), 0.6)
    axes.set_xlim(left=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("share of simulated studies without an effect\n(grey: other practices, for contrast)")
    axes.set_title(f"wrong claims (dotted: level {alpha:g})")


def _p_values(axes: Axes, counts: list[int]) -> None:
    edges = np.linspace(0, 1, len(counts) + 1)
    axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=style.SKY, edgecolor="white")
    axes.axhline(float(np.mean(counts)), color=style.INK, linewidth=0.8, linestyle=":")
    axes.set_xlabel("p-value without an effect")
    axes.set_ylabel("studies")
    axes.set_title("flat is right")


def _power(axes: Axes, curve: list[dict[str, Any]]) -> None:
    x = [point["d_z"] for point in curve]
    bounds = np.array([point["ci"] for point in curve], dtype=float).T
    estimate = np.array([point["simulated"] for point in curve], dtype=float)
    axes.plot(x, [point["formula"] for point in curve], color=style.INK, linewidth=1, label="formula")
    axes.errorbar(x, estimate, np.abs(bounds - estimate), fmt="o", color=style.ORANGE, capsize=2, label="simulated")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("true effect d_z")
    axes.set_ylabel("power")
    axes.legend(loc="upper left", borderaxespad=0.1)


@style.styled()
def draw(results: Results, output: Path, framework: str | None = None) -> None:
    """Draw rates of wrong claims with 95 % Monte-Carlo intervals, the histogram of p under the null, and power."""
    record = results.json("calibration.json")
    if record is None:
        return style.save(style.notice("The analysis has not been calibrated."), output, pd.DataFrame())
    table = record["table"]
    rows = [row for row in table if "false" in row["name"] or "any verdict" in row["name"]]
    figure = style.canvas(style.PAGE, max(3.0, 0.75 + 0.19 * len(rows)))
    mosaic = figure.subplot_mosaic([["rates", "p"], ["rates", "power"]], width_ratios=[1.2, 1])
    _rates(mosaic["rates"], rows, record["alpha"])
    _p_values(mosaic["p"], record["figure"]["p_histogram"])
    _power(mosaic["power"], record["figure"]["power_curve"])
    columns = ["name", "estimate", "ci", "studies", "promise", "verdict"]
    style.save(figure, output, pd.DataFrame(table, columns=columns))
