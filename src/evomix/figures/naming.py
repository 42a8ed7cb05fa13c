"""Identifiers as readers say them; nothing heavy is imported here."""

from __future__ import annotations


def words(identifier: str) -> str:
    """Return an identifier as a reader says it: `best_of_n` → `best of N`."""
    special = {"best_of_n": "best of N", "test_time_regression": "test-time regression"}
    return special.get(identifier, identifier.replace("_", " "))
