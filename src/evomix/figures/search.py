"""The candidates of a search as one table, shared by the figures that show a search."""

from __future__ import annotations

import pandas as pd

from evomix.figures.tree import Results

COLUMNS = ("number", "candidate", "parent", "status", "check", "slope", "gain", "fitness")


def candidates(results: Results, framework: str, arm: str) -> pd.DataFrame:
    """Return one row per candidate of an arm in order of proposal.

    Columns: number (1 is the first proposal after the seeds, which have 0), candidate and parent (ids), status
    (`accepted`, `refused`, `failed`, `diverged`), check (which one refused it), slope (nats per ln N), gain (mean
    paired gain over the sizes, nats per token), fitness (NaN unless accepted). Empty when the search has not begun.
    """
    history = results.table(f"evolution/{framework}/{arm}/history.parquet")
    if history is None:
        return pd.DataFrame(columns=list(COLUMNS))
    return history.reindex(columns=list(COLUMNS))


def winner(results: Results, framework: str, arm: str) -> str | None:
    """Return the id of the candidate that was selected on fresh seeds, or None before the selection."""
    selection = results.json(f"evolution/{framework}/{arm}/selection.json") or {}
    chosen = selection.get("candidate")
    return str(chosen) if chosen else None
