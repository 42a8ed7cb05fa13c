"""The frameworks side by side: final losses of both variants, and the gain of each evolved variant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from evomix.figures import style
from evomix.figures.catalogue import VARIANTS
from evomix.figures.intervals import mean_interval
from evomix.figures.naming import words
from evomix.figures.tree import Results


def _rows(results: Results) -> pd.DataFrame:
    """Return one row per framework and quantity (standard, evolved, gain): mean with 95 % interval over seeds."""
    rows = [
        (framework, variant, *mean_interval(results.pairs(framework)[variant]))
        for framework in results.frameworks()
        for variant in VARIANTS
    ]
    rows += [(framework, "gain", *results.gain_interval(framework)) for framework in results.frameworks()]
    frame = pd.DataFrame(rows, columns=["framework", "quantity", "mean", "lower", "upper"])
    return frame.dropna(subset="mean")


def _labels(results: Results) -> dict[str, str]:
    """Return how the legend calls the two roles: by the variants in them where all frameworks have the same."""
    pairs = [tuple(results.pair(framework).values()) for framework in results.frameworks()]
    return dict(zip(VARIANTS, pairs[0] if len(set(pairs)) == 1 else ("variant to beat", "judged variant"), strict=True))


def _forest(axes: Axes, rows: pd.DataFrame, places: dict[str, int], labels: dict[str, str], scale: float = 1.0) -> None:
    for quantity, group in rows.groupby("quantity", sort=False):
        name = str(quantity)
        shift = {"standard": 0.13, "evolved": -0.13}.get(name, 0.0)
        errors = np.abs(group[["lower", "upper"]].to_numpy(float).T - group["mean"].to_numpy(float))
        axes.errorbar(
            scale * group["mean"],
            group["framework"].map(places) + shift,
            xerr=scale * np.nan_to_num(errors),
            fmt=style.VARIANT_MARKER.get(name, "s"),
            color=style.VARIANT_COLOUR.get(name, style.INK),
            capsize=2,
            label=labels.get(name, name),
        )


@style.styled()
def draw(results: Results, output: Path, framework: str | None = None) -> None:
    """Draw mean final loss and mean paired gain (nats per token) of every framework with 95 % intervals over seeds."""
    rows = _rows(results)
    if rows.empty:
        return style.save(style.notice("No framework has a finished validation run."), output, rows)
    shown = [name for name in results.frameworks() if name in set(rows["framework"])]
    places = {name: len(shown) - 1 - index for index, name in enumerate(shown)}
    gains = rows[rows["quantity"] == "gain"]
    figure = style.canvas(style.PAGE, 0.95 + 0.4 * len(shown))
    left, *right = figure.subplots(1, 2 if len(gains) else 1, sharey=True, squeeze=False)[0]
    labels = _labels(results)
    _forest(left, rows[rows["quantity"] != "gain"], places, labels)
    left.set_yticks(list(places.values()), [words(name) for name in places])
    left.set_ylim(-0.6, len(shown) - 0.4)
    left.grid(axis="y", visible=False)
    left.xaxis.set_major_locator(MaxNLocator(5))
    left.set_xlabel("final loss (nats/token, left is better)")
    style.legend_above(left, 2)
    for axes in right:
        axes.axvline(0, color=style.INK, linewidth=0.7)
        _forest(axes, gains, places, labels, 1_000)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"gain over own {labels['standard']} (10⁻³ nats/token, right is better)")
    style.save(figure, output, rows)
