"""`make why`: Snakemake's reasons in words, with the modules and the keys that changed by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from evomix import why
from evomix.artifacts import write_json
from evomix.cli import app
from evomix.errors import UserError

OLD, NEW, UNKNOWN = "0123456789abcdef", "fedcba9876543210", "aaaaaaaaaaaaaaaa"
CHANGED = "Params have changed since last execution: Union of exclusive params before and now across all output: "


def job(number: int, message: str, reason: str) -> str:
    return f"[Thu Nov 26 15:50:36 2026]\nJob {number}: {message}\nReason: {reason} \n"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Fingerprints kept by two versions of the code."""
    common = {"evomix.training.engine": "1", "evomix.streams": "1"}
    write_json(tmp_path / f"{OLD}.json", "fingerprint", {"parts": common | {"evomix.gone": "1"}})
    write_json(tmp_path / f"{NEW}.json", "fingerprint", {"parts": common | {"evomix.streams": "2"}})
    return tmp_path


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (f"{CHANGED}before: '{OLD}' now: '{NEW}'", "because code changed (evomix.gone; evomix.streams): Tuning."),
        (f"{CHANGED}before: '{UNKNOWN}' now: '{NEW}'", "because code changed (which modules is not on record"),
        (
            CHANGED + """before: '{"a": {"x": 1, "y": 2}, "b": 3}' now: '{"a": {"x": 1, "y": 5}, "b": 3}'""",
            "because the config changed (a.y was 2, is 5): Tuning.",
        ),
        (f"{CHANGED}before: 4 now: 8", "because parameters changed (4 became 8)"),
        ("Missing output files: a.json, b.json", "because nothing is there yet"),
        ("Updated input files: a.json, b.json", "because files changed (a.json; b.json)"),
        ("Set of input files has changed since last execution", "because they read other files than before"),
        ("Code has changed since last execution", "because the rule's command changed"),
        ("Incomplete output files: a.json", "because they were interrupted"),
        ("Forced execution", "because you force it"),
        ("The moon is full", "for this reason of Snakemake's (The moon is full)"),
    ],
)
def test_every_reason_has_words(kept: Path, reason: str, sentence: str) -> None:
    said = why.explain(job(1, "Tuning", reason), kept)
    assert said.startswith("1 job would run.\n- 1 job, ")
    assert sentence in said


def test_equal_causes_stand_together_and_followers_are_counted(kept: Path) -> None:
    reason = f"{CHANGED}before: '{OLD}' now: '{NEW}'"
    text = "".join(job(number, f"Trial {number}", reason) for number in range(5))
    text += job(9, "Verdict", "Input files updated by another job: a.json")
    said = why.explain(text, kept).splitlines()
    assert said[0] == "6 jobs would run."
    assert said[1].startswith("- 5 jobs, because code changed")
    assert said[1].endswith("Trial 0; Trial 1; Trial 2 and 2 more.")
    assert said[2] == "- 1 job would follow, because what they read is made again."


def test_nothing_to_do_and_a_failed_dry_run(kept: Path) -> None:
    assert why.explain("Nothing to be done (all requested files are present).", kept).startswith("Nothing would run")
    with pytest.raises(UserError, match="No rule to produce nonsense"):
        why.explain("MissingRuleException:\nNo rule to produce nonsense\n", kept)


def test_the_command_reads_a_dry_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["why", "--results", str(tmp_path)], input=job(1, "Tuning", "Forced execution"))
    assert "1 job, because you force it: Tuning." in result.stdout


def test_the_workflow_keeps_what_a_fingerprint_stands_for(tmp_path: Path) -> None:
    fingerprint = why.recording(tmp_path / "code")
    digest = fingerprint("evomix.training.engine")
    assert digest == why.fingerprint("evomix.training.engine") == fingerprint("evomix.training.engine")
    parts = why.read_json(tmp_path / f"code/{digest}.json", "fingerprint")["parts"]
    assert {"evomix.training.engine", "evomix.streams", "evomix.model.transformer"} <= set(parts)
