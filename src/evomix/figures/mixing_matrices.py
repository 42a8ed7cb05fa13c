"""Mixing matrices of both variants on one sentence: a pair enlarged with its tokens, then every layer and head."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm, SymLogNorm
from matplotlib.figure import Figure, SubFigure
from safetensors import safe_open

from evomix.figures import style
from evomix.figures.tree import Results

Matrices = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sentence:
    """The tokens' texts and M (layers, heads, T, T) of each variant that has been materialised."""

    tokens: list[str]
    matrices: dict[str, Matrices]

    @property
    def signed(self) -> bool:
        """Whether any weight is negative, so that a sign needs a colour."""
        return any(float(np.nanmin(values)) < -1e-6 for values in self.matrices.values())


def read(results: Results, framework: str) -> Sentence:
    """Read mixing/<framework>/<variant>.safetensors of both variants, where they exist."""
    tokens: list[str] = []
    matrices: dict[str, Matrices] = {}
    for variant in results.pair(framework).values():
        path = results.root / "mixing" / framework / f"{variant}.safetensors"
        if path.is_file():
            with safe_open(path, "np") as stream:
                matrices[variant] = stream.get_tensor("matrices")
                tokens = json.loads(stream.metadata()["tokens"])
    return Sentence(tokens, matrices)


def visible(token: str) -> str:
    """Return a token as one short printable word: a space that begins a word is dropped, a line end is ⏎."""
    text = token.strip(" ").replace("\n", "⏎") or "␣"
    text = "".join(sign if sign.isprintable() else "�" for sign in text)
    return text if len(text) <= 10 else text[:9] + "…"


def shares(matrix: Matrices) -> Matrices:
    """Return the matrix over its largest absolute weight, so that heads of different scale can be compared."""
    largest = float(np.nanmax(np.abs(matrix), initial=0.0))
    return matrix / largest if largest > 0 else matrix


def most_changed(matrices: dict[str, Matrices]) -> tuple[int, int]:
    """Return (layer, head) whose two matrices differ most, each over its largest weight; (0, 0) for one variant."""
    if len(matrices) < 2:
        return 0, 0
    first, second = matrices.values()
    gaps = {
        (layer, head): float(np.nansum(np.abs(shares(first[layer, head]) - shares(second[layer, head]))))
        for layer, head in np.ndindex(first.shape[:2])
    }
    return max(gaps, key=lambda place: (gaps[place], -place[0], -place[1]))


def _show(axes: Axes, matrix: Matrices, signed: bool) -> None:
    norm: Normalize = SymLogNorm(0.03, vmin=-1, vmax=1) if signed else PowerNorm(0.5, vmin=0, vmax=1)
    drawn = np.ma.masked_array(shares(matrix), np.triu(np.ones_like(matrix, dtype=bool), 1))
    axes.imshow(drawn, cmap=style.DIVERGING if signed else style.SEQUENTIAL, norm=norm, interpolation="none")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[["top", "right"]].set_visible(True)
    for spine in axes.spines.values():
        spine.set_linewidth(0.4)


def _enlarged(figure: Figure | SubFigure, sentence: Sentence, place: tuple[int, int]) -> None:
    layer, head = place
    words = [visible(token) for token in sentence.tokens]
    panels = figure.subplots(1, len(sentence.matrices), squeeze=False)[0]
    for axes, (variant, matrices) in zip(panels, sentence.matrices.items(), strict=True):
        _show(axes, matrices[layer, head], sentence.signed)
        axes.set_title(f"{variant}: layer {layer + 1}, head {head + 1}")
        axes.set_xticks(range(len(words)), words, rotation=90, fontsize=6)
        axes.set_yticks(range(len(words)), words, fontsize=6)
        axes.tick_params(length=0, pad=1)
        axes.set_xlabel("weight on value of token i")
    panels[0].set_ylabel("output at token t")
    label = "share of the panel's largest |weight|"
    colour = figure.colorbar(panels[0].images[0], ax=panels, fraction=0.03, shrink=0.75, label=label)
    ticks = [-1, -0.1, 0, 0.1, 1] if sentence.signed else [0, 0.1, 0.5, 1]
    colour.set_ticks(ticks, labels=[style.signed(f"{tick:g}") for tick in ticks])
    colour.ax.minorticks_off()


def _grid(figure: SubFigure, sentence: Sentence) -> None:
    layers, heads = next(iter(sentence.matrices.values())).shape[:2]
    blocks: Any = figure.subfigures(1, len(sentence.matrices), squeeze=False)
    for block, (variant, matrices) in zip(blocks[0], sentence.matrices.items(), strict=True):
        block.suptitle(f"{variant}: all layers and heads", fontsize=8, fontweight="bold")
        panels = block.subplots(layers, heads, squeeze=False)
        for layer, head in np.ndindex(layers, heads):
            _show(panels[layer, head], matrices[layer, head], sentence.signed)
            if layer == 0:
                panels[layer, head].set_title(f"head {head + 1}", fontsize=6.5, fontweight="normal", loc="center")
            if head == 0:
                panels[layer, head].set_ylabel(f"layer {layer + 1}", fontsize=6.5)


def _data(sentence: Sentence) -> pd.DataFrame:
    """Return the weights at and below the diagonal, one row each, four significant digits."""
    frames = []
    for variant, matrices in sentence.matrices.items():
        layer, head, row, column = (index.ravel() for index in np.indices(matrices.shape))
        kept = column <= row
        frame = pd.DataFrame({"layer": layer + 1, "head": head + 1, "t": row, "i": column, "weight": matrices.ravel()})
        frame["weight"] = [float(f"{value:.4g}") for value in frame["weight"]]
        frames.append(frame[kept].assign(variant=variant))
    return pd.concat(frames, ignore_index=True)


@style.styled()
def draw(results: Results, output: Path, framework: str) -> None:
    """Draw M[t, i], the weight of value i in output t, for every layer and head of standard and evolved."""
    sentence = read(results, framework)
    matrices = sentence.matrices
    if not matrices or not all(np.isfinite(values).any() for values in matrices.values()):
        return style.save(style.notice("No trained variant has finite mixing matrices."), output, pd.DataFrame())
    layers, heads = next(iter(matrices.values())).shape[:2]
    if layers * heads == 1:
        figure = style.canvas(style.PAGE, 3.7)
        _enlarged(figure, sentence, (0, 0))
    else:
        small = min(0.85, (style.PAGE - 0.6) / (len(matrices) * heads)) * layers + 0.5
        figure = style.canvas(style.PAGE, 3.7 + small)
        parts: Any = figure.subfigures(2, 1, height_ratios=[3.7, small])
        _enlarged(parts[0], sentence, most_changed(matrices))
        _grid(parts[1], sentence)
    style.save(figure, output, _data(sentence))
