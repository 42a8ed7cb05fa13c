"""Hostile candidates inside a whole study: refused with a reason, and the study goes on.

A file of its own, so that another pytest worker can take it while the first kills studies.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from evomix.evolution.identity import candidate_digest
from smallest_study import read, smallest_study
from workflow_runs import snakemake

pytestmark = pytest.mark.slow

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


def test_hostile_candidates_are_refused_and_the_study_goes_on(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = tmp_path / "evomix"
    # A worker beside this one may be looking at the study: its lock is not ours.
    shutil.copytree(smallest_study(tmp_path_factory.getbasetemp()), project, ignore=shutil.ignore_patterns("locks"))
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
