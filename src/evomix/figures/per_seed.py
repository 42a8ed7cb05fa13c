"""Bars of the paired gain of every validation seed, with the mean and its 95 % interval."""

from __future__ import annotations

from pathlib import Path

from evomix.figures import style
from evomix.figures.tree import Results


@style.styled()
def draw(results: Results, output: Path, framework: str) -> None:
    """Draw gain (standard − evolved, nats per token) per seed; a diverged seed is named, not drawn as zero."""
    pairs = results.pairs(framework)
    gains = pairs.dropna(subset="gain")
    if gains.empty:
        return style.save(style.notice("No seed has finished for both variants."), output, pairs)
    figure = style.canvas(style.COLUMN, 2.3)
    axes = figure.subplots()
    axes.grid(axis="x", visible=False)
    positions = {seed: place for place, seed in enumerate(pairs["seed"])}
    scale = 1_000
    colours = [style.ORANGE if gain > 0 else style.BLUE for gain in gains["gain"]]
    hatches = ["" if gain > 0 else "////" for gain in gains["gain"]]
    axes.bar(
        gains["seed"].map(positions), scale * gains["gain"], width=0.62, color=colours, hatch=hatches, edgecolor="white"
    )
    mean, low, high = results.gain_interval(framework)
    axes.axhspan(scale * low, scale * high, color=style.INK, alpha=0.1, linewidth=0, label="95 % CI of the mean")
    axes.axhline(scale * mean, color=style.INK, linewidth=1, label=style.signed(f"mean {scale * mean:+.1f}"))
    axes.axhline(0, color=style.INK, linewidth=0.7)
    for seed, status in pairs.loc[pairs["gain"].isna(), ["seed", "status"]].to_numpy():
        axes.text(positions[seed], 0, f" {status}", rotation=90, ha="center", va="bottom", color=style.RED, fontsize=7)
    axes.set_xticks(range(len(pairs)), pairs["seed"])
    axes.set_xlabel("seed")
    axes.set_ylabel(f"gain over {results.pair(framework)['standard']}\n(10⁻³ nats/token, up is better)")
    style.legend_above(axes, 2)
    style.save(figure, output, pairs)
