"""The A/A studies: the standard against copies of itself, each comparison's gain with its interval; the truth is 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from evomix.figures import style
from evomix.figures.naming import words
from evomix.figures.tree import Results
from evomix.statistics.aa import CLAIMS

_COLUMNS = ["study", "framework", "mean", "low", "high", "margin", "p", "holm_p", "seeds_only_p", "word"]


@style.styled()
def draw(results: Results, output: Path, framework: str | None = None) -> None:
    """Draw gains (nats per token) with the confirmatory 95 % intervals; claims, which are all false, in red."""
    record = results.json("aa.json")
    if record is None:
        return style.save(style.notice("No A/A study has been run."), output, pd.DataFrame(columns=_COLUMNS))
    rows = pd.DataFrame(
        [
            row | {"low": row["ci"][0], "high": row["ci"][1], "word": row["verdict"]["word"]}
            for row in record["comparisons"]
        ],
        columns=_COLUMNS,
    )
    gain, low, high, margin = (rows[name].to_numpy(float) for name in ("mean", "low", "high", "margin"))
    place, claimed = -np.arange(len(rows)), rows["word"].isin(CLAIMS).to_numpy()
    figure = style.canvas(style.PAGE, max(1.8, 0.9 + 0.2 * len(rows)))
    axes = figure.subplots()
    for some, colour, marker, label in (
        (~claimed, style.BLUE, "o", "claims no difference"),
        (claimed, style.RED, "X", "claims a difference that does not exist"),
    ):
        if some.any():
            error = [(gain - low)[some], (high - gain)[some]]
            axes.errorbar(
                gain[some], place[some], xerr=error, fmt=marker, linestyle="", color=colour, capsize=2, label=label
            )
    axes.axvline(0, color=style.INK, linewidth=0.8)
    if np.isfinite(margin).all():
        width = float(margin.mean())
        axes.axvspan(-width, width, color=style.INK, alpha=0.08, linewidth=0, label="equivalent within this margin")
    names = [
        f"{study}, {words(view)}".replace("_", " ")
        for study, view in zip(rows["study"], rows["framework"], strict=True)
    ]
    axes.set_yticks(place, names)
    axes.set_ylim(0.6 - len(rows), 0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("gain of a copy over its equal (nats/token, 95 % interval with the tuning's noise)")
    style.legend_above(axes, 3)
    style.save(figure, output, rows)
