"""Loss against model size for both variants, with the paired gain at every size below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from evomix.figures import style
from evomix.figures.intervals import mean_interval
from evomix.figures.tree import Results


def millions(count: float, _position: int = 0) -> str:
    """Return a parameter count as a reader says it: 1187000 → 1.19M, 12400 → 12.4k, 856 → 856."""
    unit, divisor = ("M", 1e6) if count >= 1e6 else ("k", 1e3) if count >= 1e3 else ("", 1)
    return f"{count / divisor:.3g}{unit}"


def _means(runs: pd.DataFrame) -> pd.DataFrame:
    """Return mean loss and 95 % interval per variant and size; N is the standard's, so that pairs share an abscissa."""
    standard = runs[runs["variant"] == "standard"].groupby("size")["parameters"].mean()
    rows = [
        (variant, size, standard.get(size, group["parameters"].mean()), len(group), *mean_interval(group["loss"]))
        for (variant, size), group in runs.dropna(subset="loss").groupby(["variant", "size"], sort=False)
    ]
    frame = pd.DataFrame(rows, columns=["variant", "size", "parameters", "seeds", "loss", "lower", "upper"])
    return frame.sort_values(["variant", "parameters"], ascending=[False, True], ignore_index=True)


def _gains(runs: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """Return the mean paired gain standard − evolved with its 95 % interval per size."""
    wide = runs.pivot(index=["size", "seed"], columns="variant", values="loss")
    if not {"standard", "evolved"} <= set(wide.columns):
        return pd.DataFrame(columns=["size", "gain", "gain_lower", "gain_upper"])
    gains = (wide["standard"] - wide["evolved"]).dropna()
    rows = [(size, *mean_interval(values)) for size, values in gains.groupby(level="size")]
    frame = pd.DataFrame(rows, columns=["size", "gain", "gain_lower", "gain_upper"])
    return frame.merge(means.loc[means["variant"] == "standard", ["size", "parameters"]], on="size").sort_values(
        "parameters"
    )


def _upper(axes: Axes, means: pd.DataFrame, names: dict[str, str]) -> None:
    for variant, group in means.groupby("variant", sort=False):
        colour, marker = style.VARIANT_COLOUR[str(variant)], style.VARIANT_MARKER[str(variant)]
        errors = np.abs(group[["lower", "upper"]].to_numpy(float).T - group["loss"].to_numpy(float))
        label = names[str(variant)]
        if len(group) > 1:
            slope, intercept = np.polyfit(np.log(group["parameters"]), group["loss"], 1)
            grid = np.geomspace(group["parameters"].min() * 0.9, group["parameters"].max() * 1.1, 50)
            axes.plot(
                grid,
                intercept + slope * np.log(grid),
                color=colour,
                linestyle=style.VARIANT_LINE[str(variant)],
                linewidth=1,
            )
            label += style.signed(f": {slope:.3f} nats per ln N")
        axes.errorbar(
            group["parameters"], group["loss"], np.nan_to_num(errors), fmt=marker, color=colour, capsize=2, label=label
        )


@style.styled()
def draw(results: Results, output: Path, framework: str) -> None:
    """Draw final loss (nats per token) against non-embedding parameters N (log axis), straight fits, paired gains."""
    runs = results.scaling_runs(framework)
    if runs["loss"].notna().sum() == 0:
        return style.save(style.notice("No scaling run has finished."), output, runs)
    means = _means(runs)
    gains = _gains(runs, means)
    figure = style.canvas(style.COLUMN, 3.3 if len(gains) else 2.4)
    panels = figure.subplots(
        1 + bool(len(gains)), 1, sharex=True, squeeze=False, height_ratios=[2, 1][: 1 + bool(len(gains))]
    )
    _upper(panels[0, 0], means, results.pair(framework))
    panels[0, 0].set_ylabel("final loss (nats/token)")
    style.legend_above(panels[0, 0], 1)
    if len(gains):
        lower = panels[1, 0]
        errors = np.abs(gains[["gain_lower", "gain_upper"]].to_numpy(float).T - gains["gain"].to_numpy(float))
        lower.axhline(0, color=style.INK, linewidth=0.7)
        lower.errorbar(
            gains["parameters"],
            1_000 * gains["gain"],
            1_000 * np.nan_to_num(errors),
            fmt="s-",
            color=style.INK,
            capsize=2,
        )
        lower.set_ylabel("gain (10⁻³ nats,\n95 % CI)")
    axis = panels[-1, 0]
    axis.set_xscale("log")
    axis.set_xlim(means["parameters"].min() * 0.82, means["parameters"].max() * 1.22)
    axis.set_xticks(sorted(means["parameters"].unique()))
    axis.xaxis.set_major_formatter(FuncFormatter(millions))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("non-embedding parameters N (log scale)")
    style.save(figure, output, means.merge(gains.drop(columns="parameters", errors="ignore"), on="size", how="left"))
