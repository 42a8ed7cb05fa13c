"""The smallest whole study, for real: every phase, a second run, and SIGKILL in the middle.

Slow: each study is some 180 jobs. The long tests come first: a pytest worker with two tests left already takes the
next file, which would then wait for them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import copy_project
from smallest_study import read, smallest_study
from workflow_runs import planned, snakemake

pytestmark = pytest.mark.slow

FRAMEWORKS = ("coefficient_dynamics", "test_time_regression", "matrix_mixer")
STEPS = {  # a training's spec holds the hyper-parameters themselves; the others are parts of a result or rest on none
    "run_spec", "search_spec", "training", "trial", "deaths", "tuning_design", "tuning_worker", "proposal", "gate",
    "certificate", "edits", "evaluation", "tell", "finalists", "ablation_worker", "probe_runs", "probe_lengths",
    "rescoring",
}  # fmt: skip
RESULTS = {
    "tuning", "lineage", "selection", "horizon", "scaling", "validation", "comparison", "calibration", "ablation",
    "probes",
}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of preset `test` in a copy of the project."""
    return smallest_study(tmp_path_factory.getbasetemp())


def results_of(project: Path) -> dict[str, bytes]:
    """Return every JSON result by name, measured times aside."""
    root = project / "results/test"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*.json"))
        if path.name != "timing.json"
    }


def test_sigkill_anywhere_ends_in_the_same_bytes(study: Path, tmp_path: Path) -> None:
    """Kill the whole process tree several times; the finished results equal those of the undisturbed study."""
    project = copy_project(tmp_path / "evomix")
    draw = random.Random(7)
    command = [
        sys.executable, "-m", "snakemake", "all", "--profile", "profiles/local", "--cores", "2",
        "--configfile", "config/presets/test.yaml",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(project / "src")}
    for _ in range(6):
        process = subprocess.Popen(
            command,
            cwd=project,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(draw.uniform(8, 30))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(1)  # sandboxed children have sessions of their own and die with their parents
        snakemake(project, "--unlock")
    snakemake(project, "all", "--profile", "profiles/local")
    expected, found = results_of(study), results_of(project)
    assert found.keys() == expected.keys()
    different = [name for name in expected if found[name] != expected[name]]
    assert not different


def test_every_phase_leaves_its_results(study: Path) -> None:
    assert (study / "results/test/report.html").stat().st_size > 10_000
    for framework in FRAMEWORKS:
        validation = read(study, f"validation/{framework}.json")
        assert validation["verdict"]["word"] in {"better", "worse", "equivalent", "inconclusive"}  # type: ignore[index]
        assert read(study, f"evolution/{framework}/random/selection.json")["found"] in (True, False)
        assert (study / f"results/test/mechanisms/{framework}/evolved.py").is_file()


def test_policy_and_budget_of_the_tuning_stand_in_every_result(study: Path) -> None:
    """Every JSON that is not a step on the way to a result says by what tuning its hyper-parameters came."""
    root, labelled = study / "results/test", set()
    for name, text in results_of(study).items():
        content = json.loads(text)
        outside = name.startswith(("config/", "corpus/", "logs/", "probes/data/")) or "/population/" in name
        if outside or content["schema"] in STEPS:
            continue
        block = content["provenance"]
        assert block["tuning_policy"] == "joint", name
        assert block["tuning_budget"]["trials"] == 4, name
        labelled.add(content["schema"])
    assert labelled >= RESULTS, root


def test_a_second_run_does_nothing(study: Path) -> None:
    assert planned(study) == {}


def test_the_report_of_snakemake_is_one_file(study: Path) -> None:
    snakemake(study, "all", "--report", "report.html")
    assert "<html" in (study / "report.html").read_text()[:2000]
