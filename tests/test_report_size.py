"""The report of a study of the paper's size stays below 10 MB, whatever the searches proposed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import figures_study
from evomix.figures import catalogue
from evomix.figures.draw import draw
from evomix.mechanisms import library
from evomix.report.build import build
from figures_study import FRAMEWORKS, write_matrices, write_search, write_study

CANDIDATES, LAYERS, HEADS, POINTS = 35, 6, 4, 100
ARMS = ("guided", "random", "best_of_n")
LARGEST = 10e6


@pytest.mark.slow
def test_report_of_a_paper_sized_study_is_below_ten_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """35 candidates in 3 arms of 3 frameworks, 10 seeds, 4 sizes, curves of 100 points, 24 heads; every figure drawn.

    Steps between two points of the curve are left out, as nothing draws them. The frameworks' figures are of one size,
    so one framework's are drawn and stand in for the others'.
    """
    sizes = {"tiny": 503_000, "small": 1_003_000, "medium": 2_001_000, "large": 3_997_000}
    for name, value in {"SEEDS": tuple(range(42, 52)), "SIZES": sizes, "STEPS": POINTS, "EVERY": 1}.items():
        monkeypatch.setattr(figures_study, name, value)
    write_study(tmp_path)
    evolved = {"coefficient_dynamics": "gated_delta", "test_time_regression": "mesa", "matrix_mixer": "log_linear"}
    for framework in FRAMEWORKS:
        write_matrices(tmp_path, framework, LAYERS, HEADS)
        for arm in ARMS:
            write_search(tmp_path, framework, arm, CANDIDATES)
        for variant, member in (("standard", "softmax"), ("evolved", evolved[framework])):
            shutil.copyfile(library.gallery(framework)[member], tmp_path / "mechanisms" / framework / f"{variant}.py")
    first, drawn = FRAMEWORKS[0], 0
    for entry in catalogue.CATALOGUE + catalogue.ON_DEMAND:
        framework = first if entry.per_framework else None
        draw(entry.name, tmp_path, tmp_path / catalogue.stem(entry.name, framework), framework)
        drawn += len(FRAMEWORKS) if framework else 1
    for framework in FRAMEWORKS[1:]:
        shutil.copytree(tmp_path / "figures" / first, tmp_path / "figures" / framework)
    build(tmp_path, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<img ") == drawn
    assert len(page.encode()) < LARGEST, f"{len(page.encode()) / 1e6:.2f} MB"
    print(f"{len(page.encode()) / 1e6:.2f} MB")
