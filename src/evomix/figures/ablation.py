"""What each edit of an evolved mechanism is worth: effects with intervals, the most valuable edit first."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from evomix.figures import style
from evomix.figures.tree import Results

KINDS = {
    "reverted": ("taken back alone", style.ORANGE, "D", -0.14),
    "added": ("added alone", style.BLUE, "o", 0.14),
}
"""Kind of ablation: what the legend says, colour, marker, and place beside the row's middle."""
_COLUMNS = ["edit", "title", "kind", "status", "mean", "low", "high", "n", "row"]
_WIDTH = 44
_UNMEASURED = {"refused": "not separable", "failed": "training failed"}


def _data(edits: list[dict[str, Any]]) -> pd.DataFrame:
    """Return one line per edit and kind of ablation, with the row where it is drawn: the largest effect on top."""

    def worth(edit: dict[str, Any]) -> tuple[float, int]:
        effect = edit["reverted"]["effect"]
        return -effect["mean"] if effect else np.inf, edit["index"]

    lines = []
    for row, edit in enumerate(sorted(edits, key=worth)):
        own = {"edit": edit["index"], "title": edit["title"], "row": row}
        for kind in (kind for kind in KINDS if edit[kind]):
            lines.append(own | {"kind": kind, "status": edit[kind]["status"]} | (edit[kind]["effect"] or {}))
    return pd.DataFrame(lines, columns=_COLUMNS).astype(dict.fromkeys(("mean", "low", "high"), float))


def _draw_kind(axes: Axes, lines: pd.DataFrame, kind: str, alone: bool) -> None:
    """Draw one kind's effects in 10⁻³ nats; say in words what is exactly zero or was not measured."""
    label, colour, marker, shift = KINDS[kind]
    lines = lines.assign(row=lines["row"] + (0 if alone else shift))
    drawn = 1_000 * lines.dropna(subset="mean").set_index("row")[["mean", "low", "high"]]
    errors = np.abs(drawn[["low", "high"]].T.to_numpy() - drawn["mean"].to_numpy())
    axes.errorbar(
        drawn["mean"], drawn.index, xerr=np.nan_to_num(errors), fmt=marker, color=colour, capsize=2, label=label
    )
    for mean, low, high, status, row in lines[["mean", "low", "high", "status", "row"]].itertuples(index=False):
        said = "exactly zero" if mean == low == high == 0 else "" if np.isfinite(mean) else _UNMEASURED[status]
        axes.annotate(said, (0, row), (6, 0), textcoords="offset points", va="center", color=style.MUTED, fontsize=6.5)


@style.styled()
def draw(results: Results, output: Path, framework: str) -> None:
    """Draw loss without an edit − loss with it (nats per token) for every edit of a framework."""
    found = results.json(f"ablation/{framework}.json")
    if found is None or not found["edits"]:
        said = "The edits have not been measured." if found is None else "Nothing evolved: there is no edit to ablate."
        return style.save(style.notice(said), output, pd.DataFrame(columns=_COLUMNS))
    data = _data(found["edits"])
    rows = data.drop_duplicates("row")
    kinds = [kind for kind in KINDS if (data["kind"] == kind).any()]
    figure = style.canvas(style.PAGE, 0.95 + 0.36 * len(rows))
    axes = figure.subplots()
    axes.axvline(0, color=style.INK, linewidth=0.7)
    for kind in kinds:
        _draw_kind(axes, data[data["kind"] == kind], kind, len(kinds) == 1)
    names = [f"{edit}: {title}" for edit, title in rows[["edit", "title"]].itertuples(index=False)]
    wrapped = ["\n".join(textwrap.wrap(name, _WIDTH, max_lines=2, placeholder=" …")) for name in names]
    axes.set_yticks(rows["row"], wrapped)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("loss without the edit − loss with it\n(10⁻³ nats/token, right: the edit helps)")
    if len(kinds) > 1:
        style.legend_above(axes, 2)
    style.save(figure, output, data)
