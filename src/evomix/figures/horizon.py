"""Horizon fidelity: would a shorter training have chosen the same candidates?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from evomix.figures import style
from evomix.figures.naming import words
from evomix.figures.tree import Results

MEASURES = {
    "spearman": ("rank correlation", style.BLUE, "o", "-"),
    "pairwise": ("pairs in the right order", style.ORANGE, "D", (0, (4, 1.6))),
    "top_k": ("overlap of the top k", style.GREEN, "^", ":"),
}


def _data(record: dict[str, Any], arm: str) -> pd.DataFrame:
    rows = [
        (arm, name, row["fraction"], row[name]["estimate"], *row[name]["ci"])
        for name in MEASURES
        for row in record["fractions"]
        if name in row
    ]
    columns = ["arm", "measure", "fraction", "estimate", "lower", "upper"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:], float))


def _panel(axes: Axes, data: pd.DataFrame, k: int) -> None:
    for place, (name, (label, colour, marker, line)) in enumerate(MEASURES.items()):
        rows = data[data["measure"] == name]
        estimate = rows["estimate"].to_numpy(float)
        errors = np.nan_to_num(np.abs(rows[["lower", "upper"]].to_numpy(float).T - estimate))
        label = label.replace("top k", f"top {k}")
        x = 100 * rows["fraction"] + 0.8 * (place - 1)
        axes.errorbar(x, estimate, errors, marker=marker, linestyle=line, color=colour, capsize=2, label=label)
    axes.axhline(1, color=style.INK, linewidth=0.7)
    axes.set_xlabel("share of the training steps (%)")


@style.styled()
def draw(results: Results, output: Path, framework: str) -> None:
    """Draw agreement of the loss after a share of training with the final loss (1 is perfect), 95 % intervals."""
    records = {arm: results.json(f"evolution/{framework}/{arm}/horizon.json") for arm in results.arms(framework)}
    shown = {arm: _data(record, arm) for arm, record in records.items() if record is not None}
    shown = {arm: data for arm, data in shown.items() if not data.empty}
    if not shown:
        text = "Too few candidates were trained to the end to judge a horizon."
        return style.save(style.notice(text), output, pd.DataFrame())
    figure = style.canvas(style.COLUMN if len(shown) == 1 else style.PAGE, 2.7)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, (arm, data) in zip(panels, shown.items(), strict=True):
        _panel(axes, data, (records[arm] or {})["k"])
        axes.set_title(words(arm))
    lowest = min(float(np.nanmin(data[["estimate", "lower"]])) for data in shown.values())
    panels[0].set_ylim(min(-0.05, lowest - 0.05), 1.05)
    panels[0].set_ylabel("agreement with the final loss")
    style.legend_above(panels[0], 2)
    style.save(figure, output, pd.concat(shown.values(), ignore_index=True))
