"""The smallest whole study, for real: every phase, hostile candidates, a second run, and SIGKILL in the middle.

Slow: each study is some 180 jobs. The long tests come first: a pytest worker with two tests left already takes the
next file, which would then wait for them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import copy_project
from evomix.evolution.identity import candidate_digest
from workflow_runs import planned, snakemake

pytestmark = pytest.mark.slow

FRAMEWORKS = ("coefficient_dynamics", "test_time_regression", "matrix_mixer")
HOSTILE = {  # framework → (part of its standard, what stands there instead)
    "coefficient_dynamics": (
        "return self.split_heads(self.key(x_BTD))",
        "return self.split_heads(self.key(x_BTD)).reshape(7, 7, 7)",  # raises
    ),
    "test_time_regression": (
        "return self.split_heads(self.key(x_BTD))",
        "return self.split_heads(self.key(x_BTD - x_BTD.mean(-2, keepdim=True)))",  # sees the future
    ),
    "matrix_mixer": (
        "forbid_future(query_BHTN @ key_BHTN.mT)",
        "forbid_future(torch.sqrt(query_BHTN @ key_BHTN.mT))",  # NaN wherever a product is negative
    ),
}


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
    project = copy_project(tmp_path_factory.mktemp("study") / "evomix")
    snakemake(project, "all", "--profile", "profiles/local")
    return project


def results_of(project: Path) -> dict[str, bytes]:
    """Return every JSON result by name, measured times aside."""
    root = project / "results/test"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*.json"))
        if path.name != "timing.json"
    }


def read(project: Path, name: str) -> dict[str, object]:
    return json.loads((project / "results/test" / name).read_text())  # type: ignore[no-any-return]


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


def test_hostile_candidates_are_refused_and_the_study_goes_on(study: Path, tmp_path: Path) -> None:
    project = tmp_path / "evomix"
    shutil.copytree(study, project)
    for framework, (old, new) in HOSTILE.items():
        slot = project / f"results/test/evolution/{framework}/random/wave_1/slot_0"
        standard = (project / f"results/test/mechanisms/{framework}/standard.py").read_text()
        assert old in standard
        source = standard.replace(old, new)
        proposal = json.loads((slot / "proposal.json").read_text())
        proposal["candidate"] = candidate_digest(source, framework)
        (slot / "proposal.json").write_text(json.dumps(proposal, indent=2, sort_keys=True) + "\n")
        (slot / "candidate.py").write_text(source)
    snakemake(project, "all", "--profile", "profiles/local", "--rerun-triggers", "input", "mtime")
    for framework in HOSTILE:
        evaluation = read(project, f"evolution/{framework}/random/wave_1/slot_0/evaluation.json")
        assert evaluation["status"] == "refused"
        assert evaluation["fitness"] is None
        assert evaluation["check"]
        assert evaluation["reason"]
        assert not evaluation["losses"]
    assert (project / "results/test/report.html").is_file()


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
