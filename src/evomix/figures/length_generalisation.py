"""Loss of trained models on contexts longer than those they were trained on, and where in the row it comes from."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from evomix.figures import style
from evomix.figures.tree import Results

SHIFT = {"standard": 0.985, "evolved": 1.015}
"""Factor on the length at which a variant's interval is drawn, so that neither hides the other."""


def _data(record: dict[str, Any], pair: dict[str, str]) -> pd.DataFrame:
    """Return one row per variant, length and stretch of positions; mean and interval are those of the whole row."""
    rows = [
        {
            "role": role,
            "variant": variant,
            "length": int(length),
            "seeds": len(found["seeds"]),
            **{key: found[key] for key in ("mean", "low", "high")},
            "first_position": first + 1,
            "last_position": last,
            "stretch_loss": loss,
        }
        for role, variant in pair.items()
        for length, found in record["variants"][variant]["lengths"].items()
        for (first, last), loss in zip(pairwise(record["edges"]), found["stretches"], strict=False)
    ]
    columns = ["role", "variant", "length", "seeds", "mean", "low", "high", "first_position", "last_position"]
    frame = pd.DataFrame(rows, columns=[*columns, "stretch_loss"])
    return frame.astype(dict.fromkeys(("mean", "low", "high", "stretch_loss"), float))


def _contexts(axes: Axes, data: pd.DataFrame, trained: int) -> None:
    for role, rows in data.drop_duplicates(["role", "length"]).groupby("role", sort=False):
        errors = np.nan_to_num(np.abs(rows[["low", "high"]].to_numpy(float).T - rows["mean"].to_numpy(float)))
        axes.errorbar(
            rows["length"] * SHIFT[str(role)],
            rows["mean"],
            yerr=errors,
            fmt=style.VARIANT_MARKER[str(role)],
            linestyle=style.VARIANT_LINE[str(role)],
            color=style.VARIANT_COLOUR[str(role)],
            capsize=2,
            label=str(rows["variant"].iloc[0]),
        )
    axes.axvline(trained, color=style.MUTED, linestyle=":", linewidth=1, label="trained length")
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths := sorted(data["length"].unique()), [str(length) for length in lengths])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("tokens per row (log scale)")
    axes.set_ylabel("test loss (nats/token, 95 % CI)")


def _positions(axes: Axes, data: pd.DataFrame) -> None:
    """Draw the longest length at which every variant has been read, stretch by stretch."""
    common = set.intersection(*(set(rows["length"]) for _, rows in data.groupby("role")))
    longest = data[data["length"] == max(common)]
    for role, rows in longest.groupby("role", sort=False):
        edges = [0, *rows["last_position"]]
        axes.stairs(
            rows["stretch_loss"],
            edges,
            baseline=None,
            color=style.VARIANT_COLOUR[str(role)],
            linestyle=style.VARIANT_LINE[str(role)],
            linewidth=1.4,
        )
    axes.set_xlabel(f"position in rows of {max(common):,} tokens")
    axes.set_ylabel("mean loss of the stretch")


@style.styled()
def draw(results: Results, output: Path, framework: str) -> None:
    """Draw test loss (nats per token) against context length, and by position at the longest common length."""
    record = results.json(f"probes/{framework}.json")
    if record is None:
        return style.save(style.notice("No trained model has read a longer context."), output, pd.DataFrame())
    pair = dict(zip(style.VARIANT_COLOUR, record["pair"], strict=True))
    data = _data(record["length"], pair)
    if data["role"].nunique() < len(pair):
        return style.save(style.notice("No run of both variants could be read at any length."), output, data)
    figure = style.canvas(style.PAGE, 2.5)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.2])
    _contexts(left, data, record["length"]["trained"])
    _positions(right, data)
    style.legend_above(left, 3)
    style.save(figure, output, data)
