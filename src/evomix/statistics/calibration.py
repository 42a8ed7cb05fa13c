"""Calibration: the analysis run on simulated studies whose truth is known, and its error rates counted.

Phase `calibration`, writes calibration.json: a table (one row per promise of PROTOCOL.md) and the data of its figure.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from evomix.artifacts import write_json
from evomix.provenance import provenance
from evomix.settings import Tuning, Validation
from evomix.statistics import calibration_rows
from evomix.statistics.simulated_studies import Studies
from evomix.statistics.simulated_tuning import tuning_rows
from evomix.statistics.simulation import World


def calibrate(
    validation: Validation,
    frameworks: list[str],
    tuning: Tuning,
    output: Path,
    *,
    studies: int = 2_000,
    seed: int = 0,
    **labels: Any,
) -> None:
    """Calibrate the analysis of this config on `studies` simulated studies; write `output` (schema "calibration").

    `labels` are those of `provenance`.

    The Monte-Carlo error of a rate near .05 is ±.01 with 2,000 studies and ±.03 with 200.
    """
    run = Studies(validation, frameworks, studies, seed)
    nulls, p_values = calibration_rows.null_rows(run)
    powers, curve = calibration_rows.power_rows(run)
    rows = [
        *nulls,
        *tuning_rows(run, tuning),
        *calibration_rows.interval_rows(run),
        *calibration_rows.equivalence_rows(run),
        *powers,
        *calibration_rows.search_rows(run),
        *calibration_rows.law_rows(run),
    ]
    broken = [row["name"] for row in rows if row["verdict"] == "broken"]
    histogram = np.histogram([p for p in p_values if math.isfinite(p)], bins=20, range=(0, 1))[0]
    write_json(output, "calibration", {
        "studies": studies, "seeds": len(validation.seeds), "frameworks": len(frameworks), "alpha": validation.alpha,
        "trials": tuning.trials, "table": rows, "broken": broken, "world": vars(World()),
        "figure": {"p_histogram": [int(count) for count in histogram], "power_curve": curve},
        "sentence": f"{sum(row['verdict'] not in (None, 'broken') for row in rows)} of "
        f"{sum(row['verdict'] is not None for row in rows)} promises hold"
        + (f"; broken: {'; '.join(broken)}" if broken else ""),
        "provenance": provenance("evomix.statistics.calibration", **labels),
    })  # fmt: skip
