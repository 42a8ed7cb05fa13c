"""The candidates of a search as one table, and the standard's own repeats, shared by the figures that show a search."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from evomix.evolution import fitness
from evomix.figures.tree import Results

COLUMNS = ("iteration", "id", "parent", "patch", "changes", "status", "check", "reason", "slope", "gain", "fitness")
NUMBERS = ("slope", "gain", "fitness")


@dataclass(frozen=True)
class Reference:
    """The standard on the search's own seeds: its fitness and slope, and what chance alone moves them by (1 SD)."""

    kind: str
    margin: float
    slope: float
    fitness: float
    slope_sd: float
    gain_sd: float

    @property
    def fitness_sd(self) -> float:
        """Noise of one candidate's fitness."""
        return self.slope_sd if self.kind == "slope" else self.gain_sd

    @property
    def fitness_label(self) -> str:
        """Axis label of the fitness, with its unit."""
        return "fitness = −slope (nats per ln N)" if self.kind == "slope" else "fitness = gain (nats/token)"


def candidates(results: Results, framework: str, arm: str) -> pd.DataFrame:
    """Return one row per evaluated candidate of an arm in order of proposal, with columns COLUMNS.

    `iteration` counts from 1; `status` is accepted, refused, failed or diverged; `check` says which check refused it;
    slope is in nats per ln N, gain the mean paired gain over the sizes in nats per token, fitness NaN unless accepted.
    """
    history = results.table(f"evolution/{framework}/{arm}/history.parquet")
    frame = pd.DataFrame(columns=list(COLUMNS)) if history is None else history.reindex(columns=list(COLUMNS))
    frame = frame.astype(dict.fromkeys(NUMBERS, float)).sort_values("iteration", ignore_index=True)
    return frame[frame["status"] != "stopped"]


def by_arm(results: Results, framework: str) -> dict[str, pd.DataFrame]:
    """Return the candidates of every arm that has any, with a column `arm`; the arm that yields `evolved` first."""
    found = {arm: candidates(results, framework, arm).assign(arm=arm) for arm in results.arms(framework)}
    return {arm: frame for arm, frame in found.items() if not frame.empty}


def reference(results: Results, framework: str) -> Reference | None:
    """Return the standard as the search sees it, or None before it has been evaluated."""
    baseline = results.json(f"evolution/{framework}/baseline/evaluation.json")
    if baseline is None:
        return None
    judgement = results.section("judgement")
    repeats = len(next(iter(baseline["losses"].values())))
    seeds = [seed for seed in judgement.get("seeds", []) if str(seed) in next(iter(baseline["losses"].values()))]
    losses = fitness.only_seeds(baseline["losses"], seeds) if seeds else baseline["losses"]
    noise = fitness.noise(baseline["losses"], baseline["parameters"], len(seeds) or repeats)
    slope = fitness.ordinary_slope(losses, baseline["parameters"])
    kind = judgement.get("fitness", "slope")

    def spread(key: str) -> float:
        value = noise[key]
        return float(value) if isinstance(value, int | float) else math.nan

    value = fitness.fitness(kind, slope, 0.0)
    return Reference(kind, judgement.get("margin", 0.0), slope, value, spread("slope"), spread("gain"))


def winner(results: Results, framework: str, arm: str, frame: pd.DataFrame) -> str | None:
    """Return the id of the candidate frozen from an arm (before the selection: of its fittest), None without one."""
    selection = results.json(f"evolution/{framework}/{arm}/selection.json")
    if selection is not None:
        return str(selection["chosen"]["id"]) if selection["chosen"] else None
    accepted = frame.dropna(subset="fitness")
    return None if accepted.empty else str(accepted["id"].iloc[int(accepted["fitness"].argmax())])


def ancestry(frame: pd.DataFrame, name: str | None) -> list[str]:
    """Return `name` and its ancestors up to the seed."""
    parent = dict(zip(frame["id"], frame["parent"], strict=True))
    path = []
    while name is not None and name in parent:
        path.append(name)
        name = parent[name]
    return path
