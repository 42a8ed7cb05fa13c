"""Slope against mean gain of all candidates: did a steeper slope come from better large models or worse small ones?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.patches import Ellipse

from evomix.figures import style
from evomix.figures.naming import words
from evomix.figures.search import by_arm, reference, winner
from evomix.figures.tree import Results

SCALE = 1_000


@style.styled()
def draw(results: Results, output: Path, framework: str) -> None:
    """Draw −slope (nats per ln N) against mean paired gain (10⁻³ nats/token); guard line, noise ellipse, winner."""
    arms, standard = by_arm(results, framework), reference(results, framework)
    shown = [frame.dropna(subset=["slope", "gain"]) for frame in arms.values()]
    data = pd.concat(shown, ignore_index=True) if shown else pd.DataFrame()
    if data.empty or standard is None:
        return style.save(style.notice("No candidate has been trained at every size."), output, data)
    figure = style.canvas(style.COLUMN, 2.9)
    axes = figure.subplots()
    for arm, frame in arms.items():
        colour, marker = style.ARM_COLOUR[arm], style.ARM_MARKER[arm]
        kept = frame[frame["status"] == "accepted"]
        guarded = frame[frame["status"] != "accepted"]
        axes.plot(SCALE * kept["gain"], -kept["slope"], marker, color=colour, alpha=0.85, label=words(arm))
        axes.plot(SCALE * guarded["gain"], -guarded["slope"], marker, color=colour, fillstyle="none")
    if not data[data["status"] != "accepted"].empty:
        axes.plot([], [], "o", color=style.MUTED, fillstyle="none", label="guarded out")
    axes.axvline(-SCALE * standard.margin, color=style.RED, linestyle=":", label="guard")
    axes.axhline(-standard.slope, color=style.BLUE, linewidth=0.7)
    axes.plot(0, -standard.slope, "P", color=style.BLUE, markersize=6, label="standard, ± 2 SD")
    if np.isfinite(standard.slope_sd + standard.gain_sd):
        size = (4 * SCALE * standard.gain_sd, 4 * standard.slope_sd)
        axes.add_patch(Ellipse((0, -standard.slope), *size, color=style.BLUE, alpha=0.12, linewidth=0))
    first = next(iter(arms))
    best = data[data["id"] == winner(results, framework, first, arms[first])]
    axes.plot(
        SCALE * best["gain"],
        -best["slope"],
        "o",
        markersize=9,
        fillstyle="none",
        color=style.INK,
        label="frozen",
    )
    axes.margins(0.08)
    axes.set_xlabel("mean gain (10⁻³ nats/token, right is better)")
    axes.set_ylabel("−slope (nats per ln N, up is better)")
    style.legend_above(axes, 3)
    style.save(figure, output, data)
