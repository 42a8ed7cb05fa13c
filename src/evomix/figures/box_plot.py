"""Box plot of the final losses of both variants, with the pairs of one seed joined."""

from __future__ import annotations

from pathlib import Path

from evomix.figures import style
from evomix.figures.tree import Results


@style.styled()
def draw(results: Results, output: Path, framework: str) -> None:
    """Draw the final loss (nats per token) of every validation seed, standard beside evolved."""
    pairs = results.pairs(framework)
    long = pairs.melt("seed", ["standard", "evolved"], "variant", "loss").dropna()
    if long.empty:
        return style.save(style.notice("No validation run has finished."), output, pairs)
    figure = style.canvas(style.COLUMN, 2.6)
    axes = figure.subplots()
    axes.grid(axis="x", visible=False)
    order = [name for name in ("standard", "evolved") if name in set(long["variant"])]
    for column, variant in enumerate(order):
        line = {"color": style.VARIANT_COLOUR[variant], "linewidth": 1.2}
        values = long.loc[long["variant"] == variant, "loss"]
        axes.boxplot(
            values, positions=[column], widths=0.42, showfliers=False, manage_ticks=False,
            boxprops=line, whiskerprops=line, capprops=line, medianprops=line,
        )  # fmt: skip
    for pair in pairs.dropna(subset="gain")[["standard", "evolved"]].to_numpy(float):
        axes.plot([0.3, 0.7], pair, color=style.MUTED, linewidth=0.6, alpha=0.8, zorder=1)
    for variant, place in (("standard", 0.3), ("evolved", 0.7)):
        values = pairs[variant].dropna()
        axes.plot(
            [place] * len(values),
            values,
            linestyle="",
            marker=style.VARIANT_MARKER[variant],
            color=style.VARIANT_COLOUR[variant],
            markersize=3.5,
            markeredgecolor="white",
            markeredgewidth=0.4,
        )
    named = results.pair(framework)
    axes.set_xticks(range(len(order)), [f"{named[name]}\n(n = {int(pairs[name].notna().sum())})" for name in order])
    axes.set_xlabel("")
    axes.set_ylabel("final loss (nats/token, down is better)")
    style.save(figure, output, pairs)
