"""The early stop of hopeless candidates: it saves trainings and decides nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from evolution_study import judged, train, unit
from evomix.evolution import fitness
from evomix.specs import RunSpec


def test_the_early_stop_changes_no_survivor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates of every quality, judged with the early stop and without: same survivors, same scores, fewer runs."""
    runs: list[str] = []

    def judge(number: int) -> Any:
        shifts = {"small": 12 * (unit(number, "small") - 0.4), "large": 2 * (unit(number, "large") - 0.5)}

        def trained(spec: RunSpec, folder: Path) -> dict[str, Any]:
            runs.append(spec.size)
            summary = train(spec, folder)
            return {**summary, "loss": max(0.0, summary["loss"] + shifts[spec.size])}

        return trained

    outcomes, counts = [], []
    for name in ("stopped early", "never stopped"):
        if name == "never stopped":
            monkeypatch.setattr(fitness, "best_possible_gain", lambda finished, standard: math.inf)
        runs.clear()
        records = [judged(tmp_path / name / str(number), train=judge(number)) for number in range(60)]
        outcomes.append([(item["status"], item["check"], item["fitness"], item["score"]) for item in records])
        counts.append(len(runs))
    assert outcomes[0] == outcomes[1]
    assert {status for status, *_ in outcomes[0]} == {"accepted", "refused"}
    assert counts[0] < counts[1] == 120
