"""The expert mechanisms of all frameworks: loss after a fixed budget, and costs against softmax."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from evomix.figures import style
from evomix.figures.naming import words
from evomix.figures.tree import Results

PANELS = {
    "flops_per_token": "FLOPs per token\n(× softmax)",
    "tokens_per_second": "tokens per second\n(× softmax, measured)",
}
"""Ratio to softmax: label of its axis."""


def _data(results: Results) -> pd.DataFrame:
    """Return one row per member in the order drawn: framework by framework, lowest loss first."""
    table, timing = results.json("gallery.json") or {}, results.json("gallery_timing.json") or {}
    times = {(row["framework"], row["member"]): row for row in timing.get("members", [])}
    members = table.get("members", [])
    places = {name: place for place, name in enumerate(dict.fromkeys(row["framework"] for row in members))}
    rows = []
    for row in sorted(members, key=lambda row: (places[row["framework"]], row["loss"] is None, row["loss"] or 0.0)):
        measured = times.get((row["framework"], row["member"]), {})
        ratios = row["against_softmax"] | measured.get("against_softmax", {})
        plain = {key: value for key, value in (measured | row).items() if key not in ("against_softmax", "reason")}
        rows.append(plain | {f"{key}_ratio": value for key, value in ratios.items()})
    return pd.DataFrame(rows).assign(unigram_entropy=table.get("unigram_entropy"))


def _dots(axes: Axes, data: pd.DataFrame, key: str) -> None:
    for framework, rows in data.groupby("framework", sort=False):
        softmax = rows["member"] == "softmax"
        for chosen, fill in ((~softmax, "full"), (softmax, "none")):
            axes.plot(
                rows.loc[chosen, key].astype(float),
                rows.index[chosen],
                style.FRAMEWORK_MARKER[str(framework)],
                color=style.FRAMEWORK_COLOUR[str(framework)],
                fillstyle=fill,
                label=words(str(framework)) if fill == "full" else None,
            )


@style.styled()
def draw(results: Results, output: Path, framework: str | None = None) -> None:
    """Draw every member's loss (nats per token, softmax hollow), and its FLOPs and speed over those of softmax."""
    data = _data(results)
    if data.empty:
        return style.save(style.notice("The gallery has not been trained."), output, data)
    figure = style.canvas(style.PAGE, 0.9 + 0.165 * len(data))
    shown = [key for key in PANELS if f"{key}_ratio" in data]
    left, *right = figure.subplots(1, 1 + len(shown), sharey=True, squeeze=False, width_ratios=[2] + [1] * len(shown))[
        0
    ]
    _dots(left, data, "loss")
    for place, row in data[data["loss"].isna()].iterrows():
        left.text(0.5, int(str(place)), row["status"], color=style.RED, transform=left.get_yaxis_transform())
    entropy = float(data["unigram_entropy"].iloc[0])
    if data["beats_unigram"].all():
        said = f"all beat the unigram entropy {entropy:.2f}"
    else:
        said = "dotted: unigram entropy"
        left.axvline(entropy, color=style.INK, linestyle=":", linewidth=1)
    left.set_yticks(range(len(data)), [words(name) for name in data["member"]])
    left.set_ylim(len(data) - 0.4, -0.6)
    left.set_xlabel(f"held-out loss (nats/token, left is better;\n{said})")
    style.legend_above(left, 3)
    for axes, key in zip(right, shown, strict=True):
        _dots(axes, data, f"{key}_ratio")
        axes.axvline(1, color=style.INK, linewidth=0.7)
        axes.set_xlabel(PANELS[key])
    style.save(figure, output, data)
