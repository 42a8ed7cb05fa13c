"""Horizon fidelity: would a shorter training have chosen the same candidates?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from evomix.figures import style
from evomix.figures.tree import Results

MEASURES = {
    "spearman": ("rank correlation", style.BLUE, "o", "-"),
    "pairwise": ("pairs in the right order", style.ORANGE, "D", (0, (4, 1.6))),
    "top_k": ("overlap of the top k", style.GREEN, "^", ":"),
}


@style.styled()
def draw(results: Results, output: Path, framework: str) -> None:
    """Draw agreement of the loss after a share of training with the final loss (1 is perfect), 95 % intervals."""
    record = results.json(f"horizon/{framework}.json") or {"fractions": []}
    measured = [row for row in record["fractions"] if "spearman" in row]
    rows = [(name, row["fraction"], row[name]["estimate"], *row[name]["ci"]) for name in MEASURES for row in measured]
    data = pd.DataFrame(rows, columns=["measure", "fraction", "estimate", "lower", "upper"]).astype({"lower": float})
    if data.empty:
        return style.save(style.notice("Too few candidates were trained to the end to judge a horizon."), output, data)
    figure = style.canvas(style.COLUMN, 2.7)
    axes = figure.subplots()
    for place, (name, (label, colour, marker, line)) in enumerate(MEASURES.items()):
        rows_of = data[data["measure"] == name]
        estimate = rows_of["estimate"].to_numpy(float)
        errors = np.nan_to_num(np.abs(rows_of[["lower", "upper"]].to_numpy(float).T - estimate))
        label = label.replace("top k", f"top {record['k']}")
        x = 100 * rows_of["fraction"] + 0.8 * (place - 1)
        axes.errorbar(x, estimate, errors, marker=marker, linestyle=line, color=colour, capsize=2, label=label)
    axes.axhline(1, color=style.INK, linewidth=0.7)
    axes.set_ylim(min(-0.05, float(np.nanmin(data["lower"])) - 0.05), 1.05)
    axes.set_xlabel("share of the training steps (%)")
    axes.set_ylabel("agreement with the final loss")
    style.legend_above(axes, 2)
    style.save(figure, output, data)
