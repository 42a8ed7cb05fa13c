"""Accuracy of both variants on every probe, with its interval over seeds and the level of chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from evomix.figures import style
from evomix.figures.tree import Results

OFFSET = {"standard": -0.16, "evolved": 0.16}
"""Distance of a variant's dots from the middle of its task's row; rows grow downwards."""


def _data(record: dict[str, Any], pair: dict[str, str]) -> pd.DataFrame:
    """Return one row per task, variant and seed; mean and interval are the variant's on the task."""
    rows = [
        {
            "task": name,
            "title": task["title"],
            "role": role,
            "variant": variant,
            "seed": int(seed),
            "accuracy": value,
            "steps_to_90": task["variants"][variant]["steps_to_90"][seed],
            **{key: task["variants"][variant][key] for key in ("mean", "low", "high")},
            "chance": task["chance"],
            "ceiling": task["ceiling"],
            "reason": task["variants"][variant]["reasons"].get(seed, ""),
        }
        for name in record["order"]
        for role, variant in pair.items()
        for task in [record["tasks"][name]]
        for seed, value in task["variants"][variant]["seeds"].items()
    ]
    numbers = dict.fromkeys(("accuracy", "mean", "low", "high", "chance", "ceiling"), float)
    return pd.DataFrame(rows).astype(numbers)


def _variant(axes: Axes, rows: pd.DataFrame, places: dict[str, int], role: str) -> None:
    """Draw a variant's means with intervals, its seeds, and in words how many have no accuracy."""
    colour, marker = style.VARIANT_COLOUR[role], style.VARIANT_MARKER[role]
    height = rows["task"].map(places) + OFFSET[role]
    axes.plot(rows["accuracy"], height, marker, color=colour, fillstyle="none", markersize=2.6, markeredgewidth=0.5)
    means = rows.drop_duplicates("task").dropna(subset="mean")
    errors = np.nan_to_num(np.abs(means[["low", "high"]].to_numpy(float).T - means["mean"].to_numpy(float)))
    axes.errorbar(
        means["mean"],
        means["task"].map(places) + OFFSET[role],
        xerr=errors,
        fmt=marker,
        color=colour,
        capsize=2,
        linewidth=1,
        label=str(rows["variant"].iloc[0]),
    )
    for task, group in rows.groupby("task", sort=False):
        lost = int(group["accuracy"].isna().sum())
        if lost:
            said = f"{group['variant'].iloc[0]}: {lost} of {len(group)} seeds lost"
            axes.text(1.03, places[str(task)] + OFFSET[role], said, color=style.RED, va="center", fontsize=6.5)


@style.styled()
def draw(results: Results, output: Path, framework: str) -> None:
    """Draw accuracy (share of right answers) per task: mean with 95 % interval, seeds hollow, chance as a bar."""
    record = results.json(f"probes/{framework}.json")
    if record is None:
        return style.save(style.notice("The probes have not been trained."), output, pd.DataFrame())
    data = _data(record, dict(zip(style.VARIANT_COLOUR, record["pair"], strict=True)))
    places = {task: place for place, task in enumerate(record["order"])}
    figure = style.canvas(style.PAGE, 1.0 + 0.3 * len(places))
    axes = figure.subplots()
    for role in OFFSET:
        _variant(axes, data[data["role"] == role], places, role)
    tasks = data.drop_duplicates("task")
    rows = tasks["task"].map(places)
    axes.vlines(tasks["chance"], rows - 0.38, rows + 0.38, color=style.INK, linewidth=2, label="chance")
    open_ended = tasks[tasks["ceiling"] < 1]
    if len(open_ended):
        rows = open_ended["task"].map(places)
        axes.vlines(
            open_ended["ceiling"], rows - 0.38, rows + 0.38, color=style.INK, linestyle=":", label="best possible"
        )
    axes.set_yticks(range(len(places)), [record["tasks"][task]["title"] for task in places])
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(f"share of right answers after {record['steps']:,} steps (95 % CI over seeds, right is better)")
    style.legend_above(axes, 4)
    style.save(figure, output, data)
