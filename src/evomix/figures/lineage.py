"""Who came from whom: one tree per arm, readable at hundreds of candidates, the frozen candidate's ancestry marked."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from evomix.figures import style
from evomix.figures.naming import words
from evomix.figures.search import ancestry, by_arm, reference, winner
from evomix.figures.tree import Results

SEED = "standard"
"""Stands for every copy of a seed program: the root of all trees."""


def layout(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` with tree places added: depth (edits from the seed), lane (leaves in order, parents centred).

    A parent is always proposed before its children, so one pass back counts leaves and one pass forward places them.
    """
    known = set(frame["id"])
    order = [str(name) for name in frame["id"]]
    parent = {name: str(above) if above in known else SEED for name, above in zip(order, frame["parent"], strict=True)}
    leaves: dict[str, int] = {}
    for name in reversed(order):
        leaves[name] = max(1, leaves.get(name, 0))
        leaves[parent[name]] = leaves.get(parent[name], 0) + leaves[name]
    depth, free, lane = {SEED: 0}, {SEED: 0.0}, {SEED: leaves.get(SEED, 1) / 2}
    for name in order:
        above = parent[name]
        depth[name], free[name] = depth[above] + 1, free[above]
        lane[name] = free[above] + leaves[name] / 2
        free[above] += leaves[name]
    return frame.assign(
        parent=[parent[name] for name in order],
        depth=[depth[name] for name in order],
        lane=[lane[name] for name in order],
    )


def _tree(axes: Axes, tree: pd.DataFrame, path: list[str], level: float) -> None:
    root = (0.0, float(tree.loc[tree["parent"] == SEED, "lane"].mean()))
    spots = tree[["depth", "lane"]].to_numpy(float)
    place = dict(zip(tree["id"], spots, strict=True))
    for name, parent, (depth, lane) in zip(tree["id"], tree["parent"], spots, strict=True):
        x, y = place.get(parent, root)
        marked = name in path
        axes.plot(
            [x, x + 0.35, depth],
            [y, lane, lane],
            color=style.INK if marked else style.MUTED,
            linewidth=1.6 if marked else 0.5,
            alpha=1 if marked else 0.6,
            zorder=2 if marked else 1,
        )
    small = 3 if len(tree) < 80 else 2.2
    kinds = {
        "better than standard": (tree["fitness"] > level, "D", style.ORANGE, "full"),
        "not better": (tree["fitness"] <= level, "o", style.BLUE, "none"),
        "refused, failed, diverged": (tree["fitness"].isna(), "x", style.MUTED, "full"),
    }
    for label, (chosen, marker, colour, fill) in kinds.items():
        rows = tree[chosen]
        if rows.empty:
            continue
        axes.plot(
            rows["depth"], rows["lane"], marker, color=colour, fillstyle=fill, markersize=small, zorder=3, label=label,
            markerfacecolor="white" if fill == "none" else colour,
        )  # fmt: skip
    axes.plot(*root, "s", color=style.BLUE, markersize=5, zorder=3, label="seed")


@style.styled()
def draw(results: Results, output: Path, framework: str) -> None:
    """Draw each arm's tree: edits from the seed to the right, every leaf in its own lane."""
    arms, standard = by_arm(results, framework), reference(results, framework)
    if not arms or standard is None:
        return style.save(style.notice("No candidate has been evaluated."), output, pd.DataFrame())
    trees = {arm: layout(frame) for arm, frame in arms.items()}
    lanes = max(tree["lane"].max() for tree in trees.values())
    figure = style.canvas(style.COLUMN if len(trees) == 1 else style.PAGE, min(8.5, max(2.2, 0.7 + 0.1 * lanes)))
    panels = figure.subplots(1, len(trees), squeeze=False)[0]
    for axes, (arm, tree) in zip(panels, trees.items(), strict=True):
        name = winner(results, framework, arm, tree)
        _tree(axes, tree, ancestry(tree, name), standard.fitness)
        axes.invert_yaxis()
        number = tree.loc[tree["id"] == name, "iteration"]
        axes.set_title(words(arm) + ("" if number.empty else f": path to no. {int(number.iloc[0])}"))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("edits from the seed")
        axes.margins(x=0.08)
    signs = {label: sign for axes in panels for sign, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    per_row = 2 if len(trees) == 1 else 4
    figure.legend(list(signs.values()), list(signs), loc="outside lower center", ncols=per_row, columnspacing=1.2)
    columns = ["arm", "iteration", "id", "parent", "depth", "patch", "changes", "status", "check", "fitness"]
    data = pd.concat(trees.values(), ignore_index=True)
    style.save(figure, output, data[columns])
