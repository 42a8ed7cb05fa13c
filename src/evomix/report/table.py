"""What a table is: columns with headings and formats, rows, and the cells a reader sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from evomix.report.formats import is_null, show

Columns = dict[str, tuple[str, str]]
"""Key in the data: (heading, format of evomix.report.formats)."""


@dataclass(frozen=True)
class Table:
    """One table: heading, one sentence on how to read it, columns in order, and the rows."""

    name: str
    title: str
    caption: str
    columns: Columns
    rows: pd.DataFrame

    def cells(self) -> list[list[tuple[str, str, bool]]]:
        """Return every row as (text, sort key, whether the column holds numbers); what is missing reads `null`."""
        found = []
        for record in self.rows.to_dict("records"):
            row = []
            for name, (_heading, form) in self.columns.items():
                value = record.get(name)
                words = form in ("text", "flag")
                number = not words and not is_null(value)
                key = f"{float(value or 0):.12g}" if number else show(value, form)
                row.append((show(value, form), key, not words))
            found.append(row)
        return found

    def only(self, framework: str) -> Table:
        """Return the rows of one framework, without the column that names it."""
        rows = self.rows[self.rows["framework"] == framework] if "framework" in self.rows else self.rows
        columns = {key: value for key, value in self.columns.items() if key != "framework"}
        return Table(self.name, self.title, self.caption, columns, rows)


def make(name: str, title: str, caption: str, columns: Columns, records: list[dict[str, Any]]) -> Table:
    """Return a table of `records`; keys that are no column are left out, missing ones read null."""
    return Table(name, title, caption, columns, pd.DataFrame(records, columns=list(columns)).astype(object))
