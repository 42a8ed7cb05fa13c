"""Tables of a study: what is in them, and how a reader sees each column. Written as CSV (full precision) and HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evomix.artifacts import write_text
from evomix.figures.catalogue import VARIANTS
from evomix.figures.tree import Results
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
        """Return every row as (text, sort key, is it a number); a missing value reads `null` and sorts last."""
        found = []
        for record in self.rows.to_dict("records"):
            row = []
            for key, (_heading, form) in self.columns.items():
                value = record.get(key)
                number = form not in ("text", "flag") and not is_null(value)
                row.append(
                    (show(value, form), f"{float(value or 0):.12g}" if number else show(value, form), form != "text")
                )
            found.append(row)
        return found

    def only(self, framework: str) -> Table:
        """Return the rows of one framework, without the column that names it."""
        rows = self.rows[self.rows["framework"] == framework] if "framework" in self.rows else self.rows
        columns = {key: value for key, value in self.columns.items() if key != "framework"}
        return Table(self.name, self.title, self.caption, columns, rows)


def _table(name: str, title: str, caption: str, columns: Columns, records: list[dict[str, Any]]) -> Table:
    return Table(name, title, caption, columns, pd.DataFrame(records, columns=list(columns)).astype(object))


def verdicts(results: Results) -> Table:
    """Return one row per validated framework: the verdict and the numbers behind it."""
    records = []
    for framework in results.frameworks():
        found = results.json(f"validation/{framework}.json")
        if found is None:
            continue
        difference, effect = found["difference"], found["effect"]
        records.append(
            {
                "framework": framework,
                "verdict": found["verdict"]["word"],
                "gain": difference["mean"],
                "low": difference["ci"][0],
                "high": difference["ci"][1],
                "relative": difference["relative"],
                "holm_p": found["primary"]["holm_p"],
                "d_z": effect["d_z"],
                "agree": f"{found['agreement']['agree']} of {found['agreement']['seeds']}",
                "equivalence_p": found["equivalence"]["holm_p"],
                "flops_ratio": found["costs"]["flops_ratio"],
                "parameters_ratio": found["costs"]["parameters_ratio"],
            }
        )
    columns: Columns = {
        "framework": ("framework", "text"),
        "verdict": ("verdict", "text"),
        "gain": ("gain (nats/token)", "gain"),
        "low": ("95 % CI from", "gain"),
        "high": ("to", "gain"),
        "relative": ("relative gain", "percent"),
        "holm_p": ("p (Holm)", "p"),
        "d_z": ("d_z", "effect"),
        "agree": ("seeds that agree", "text"),
        "equivalence_p": ("p of equivalence", "p"),
        "flops_ratio": ("FLOPs", "ratio"),
        "parameters_ratio": ("parameters", "ratio"),
    }
    caption = "Gain is standard − evolved in final loss: positive means that the evolved variant is better."
    return _table("verdicts", "Verdicts", caption, columns, records)


def per_seed(results: Results) -> Table:
    """Return one row per framework and validation seed."""
    frames = [results.pairs(framework).assign(framework=framework) for framework in results.frameworks()]
    rows = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    columns: Columns = {
        "framework": ("framework", "text"),
        "seed": ("seed", "count"),
        "standard": ("standard (nats/token)", "loss"),
        "evolved": ("evolved (nats/token)", "loss"),
        "gain": ("gain", "gain"),
        "relative": ("relative gain", "percent"),
    }
    caption = "Final loss on the whole test shard. A diverged run has no loss and reads null."
    return _table(
        "per_seed",
        "Final loss of every seed",
        caption,
        columns,
        [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")],
    )


def scaling(results: Results) -> Table:
    """Return one row per framework, variant with the fitted line, and one with the difference of the slopes."""
    records: list[dict[str, Any]] = []
    for framework in results.frameworks():
        found = results.json(f"scaling/{framework}.json") or {}
        for variant in VARIANTS:
            block = found.get("variants", {}).get(variant)
            if block:
                slope = block["slope"]
                records.append(
                    {
                        "framework": framework,
                        "variant": variant,
                        "slope": slope["mean"],
                        "low": slope["ci"][0],
                        "high": slope["ci"][1],
                        "r_squared": block["r_squared"]["means"],
                        "p": block["lack_of_fit"]["p"],
                    }
                )
        test = found.get("slope_comparison")
        if test:
            low, high = test["ci"]
            records.append(
                {
                    "framework": framework,
                    "variant": "standard − evolved",
                    "slope": test["mean"],
                    "low": low,
                    "high": high,
                    "p": test["p"],
                }
            )
    columns: Columns = {
        "framework": ("framework", "text"),
        "variant": ("variant", "text"),
        "slope": ("slope (nats per ln N)", "slope"),
        "low": ("95 % CI from", "slope"),
        "high": ("to", "slope"),
        "r_squared": ("R²", "number"),
        "p": ("p", "p"),
    }
    caption = (
        "A steeper (more negative) slope scales better. p is the lack of fit of the line for a variant, and the paired "
        "test over seeds for the difference, which is positive when evolved falls faster."
    )
    return _table("scaling", "Scaling laws", caption, columns, records)


TABLES: dict[str, Callable[[Results], Table]] = {"verdicts": verdicts, "per_seed": per_seed, "scaling": scaling}
"""Name: function that collects the table from a results folder."""

PER_FRAMEWORK = {"per_seed"}
"""Tables that the report splits and shows inside each framework's section."""


def write(results: Results, name: str, output: Path) -> None:
    """Write table `name` as `output`.csv (full precision) and `output`.html (a page of its own)."""
    from evomix.report.render import page

    table = TABLES[name](results)
    data = table.rows.to_csv(index=False, float_format="%.9g", lineterminator="\n", na_rep="null")
    write_text(output.parent / f"{output.name}.csv", data)
    write_text(output.parent / f"{output.name}.html", page("table.html.j2", table=table, title=table.title))
