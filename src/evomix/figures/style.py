"""One style for every figure: readable in print at column width, safe for colour-blind readers, the same bytes twice.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/); colour is never the only sign, so every series also has
its own marker or line. Figures are drawn without pyplot, so no global state survives a figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evomix.artifacts import atomic_path, write_text

COLUMN, PAGE = 3.5, 7.1
"""Widths in inches of one journal column and of a full page."""

INK, MUTED, GRID = "#1a1a1a", "#5f6368", "#d9dce0"
BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW, RED = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#B5578F",
    "#56B4E9",
    "#C08A00",
    "#B3261E",
)
VARIANT_COLOUR = {"standard": BLUE, "evolved": ORANGE}
VARIANT_MARKER = {"standard": "o", "evolved": "D"}
VARIANT_LINE = {"standard": (0, (4, 1.6)), "evolved": "-"}
ARM_COLOUR = {"guided": ORANGE, "random": GREEN, "best_of_n": PURPLE}
ARM_MARKER = {"guided": "D", "random": "o", "best_of_n": "^"}
FRAMEWORK_COLOUR = {"coefficient_dynamics": GREEN, "test_time_regression": PURPLE, "matrix_mixer": YELLOW}
FRAMEWORK_MARKER = {"coefficient_dynamics": "o", "test_time_regression": "s", "matrix_mixer": "^"}
DIVERGING, SEQUENTIAL = "RdBu_r", "Blues"

_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "axes.formatter.useoffset": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "evomix",
    "pdf.fonttype": 42,
    "path.simplify_threshold": 0.5,
}
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": "evomix"},
    "pdf": {"CreationDate": None, "Creator": "evomix", "Producer": None},
    "png": {"Software": "evomix"},
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the house style inside this block, whatever a matplotlibrc of the machine says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def canvas(width: float = COLUMN, height: float = 2.5) -> Figure:
    """Return an empty figure of `width` × `height` inches with automatic spacing."""
    return Figure(figsize=(width, height), layout="constrained")


def signed(text: str) -> str:
    """Return `text` with the typographic minus, as the axes write it."""
    return text.replace("-", "\N{MINUS SIGN}")


def notice(text: str, width: float = COLUMN) -> Figure:
    """Return a figure that says in a sentence why there is nothing to draw, without axes."""
    figure = canvas(width, 0.9)
    figure.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, style="italic", wrap=True)
    return figure


def legend_above(axes: Axes, columns: int = 3, **options: Any) -> None:
    """Put the legend of `axes` above the figure, where it covers no data and takes its own room."""
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(handles, labels, loc="outside upper left", ncols=columns, columnspacing=1.2, **options)


def save(figure: Figure, output: Path, data: pd.DataFrame) -> None:
    """Write `figure` as SVG, PDF and PNG (220 dpi) and `data`, the numbers it shows, as CSV beside `output`.

    `output` is the path without suffix. Equal input gives equal bytes.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, so that all three formats agree
    for suffix, metadata in _METADATA.items():
        with atomic_path(output.parent / f"{output.name}.{suffix}") as temporary:
            figure.savefig(temporary, format=suffix, metadata=metadata, dpi=220)
    write_text(output.parent / f"{output.name}.csv", data.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
