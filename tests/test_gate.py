"""The gate as a whole: one record per file, cheats caught by a named layer, honest programs accepted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evomix.gate import gate, sandbox, syntax
from evomix.mechanisms import library
from evomix.settings import Sandbox
from programs.build import Program
from programs.honest import estimators, idioms, mixers
from programs.hostile import cunning, escapes, leaks, tampering

BATCH = Path(__file__).parent / "programs" / "batch.py"
HONEST = {**mixers.PROGRAMS, **estimators.PROGRAMS, **idioms.PROGRAMS}
HOSTILE = {**escapes.PROGRAMS, **tampering.PROGRAMS, **leaks.PROGRAMS, **cunning.PROGRAMS}
RUN_TIME = {
    name: item for name, item in HOSTILE.items() if not {"syntax", "sandbox"} & set(item.caught_by)
}  # the rest is seen by syntax alone, or needs a sandbox of its own
SAMPLE = {
    "behind a zero gate": "integrity.causality (float64)",
    "only for large batches": "integrity.causality (large batch)",
    "only in half precision": "integrity.causality (autocast)",
    "length of the sequence": "integrity.prefix equality",
    "mean over the batch": "integrity.batch independence",
    "silent buffer counter": "integrity.object unchanged",
    "closure with memory": "integrity.statelessness",
    "dropout inside attention": "integrity.determinism",
    "values overwritten": "integrity.inputs unchanged",
    "tensors in a list": "integrity.registered tensors",
    "detached values": "integrity.gradient of values",
    "rare NaN": "integrity.finite",
    "buffer instead of parameters": "budget.parameters (width 48, 2 layers)",
    "false statement of cost": "budget.statement (width 48, 2 layers)",
    "finite mask": "certificate.G3",
    "false structure": "certificate.M2",
    "between the cuts": "integrity.causality (float64)",
    "only on text": "integrity.causality (text)",
    "only for batches of 32": "integrity.causality (other batches)",
    "feed-forward behind a loud first row": "integrity.range",
    "time bomb in a generator": "integrity.object unchanged",
}
"""Cheat: the one check that must see it, so that every check is seen to work."""
KEYS = {"check", "layer", "value", "limit", "passed", "hint"}


def run_batch(programs: dict[str, Program], folder: Path) -> dict[str, Any]:
    """Run the run-time checks of many programs in one sandboxed process; return name → failed checks, CPU seconds."""
    scratch, job = folder / "scratch", []
    scratch.mkdir()
    for number, (name, item) in enumerate(programs.items()):
        file = folder / f"program_{number}.py"
        file.write_text(syntax.normalise(item.source, item.framework), encoding="utf-8")
        job.append([name, str(file), item.framework])
    (folder / "job.json").write_text(json.dumps(job))
    output = scratch / "results.json"
    arguments = [str(BATCH), str(folder / "job.json"), str(output)]
    result = sandbox.run(arguments, readable=[folder, BATCH], scratch=scratch, settings=Sandbox(), seconds=1800)
    assert result.returncode == 0, result.stderr.decode()[-2000:]
    results: dict[str, Any] = json.loads(output.read_text())
    assert results.keys() == programs.keys()
    return results


def assert_caught(programs: dict[str, Program], results: dict[str, Any]) -> None:
    """Every program is refused by a layer that it names, with a hint."""
    for name, item in programs.items():
        failed = results[name]["failed"]
        assert {check["layer"] for check in failed} & set(item.caught_by), name
        assert all(check.keys() - {"meaning"} == KEYS and check["hint"] for check in failed), name


def test_a_sample_of_cheats_is_caught_and_honest_programs_are_not(tmp_path: Path) -> None:
    cheats = {name: RUN_TIME[name] for name in SAMPLE}
    honest = {name: HONEST[name] for name in list(HONEST)[::16]}
    results = run_batch({**cheats, **honest}, tmp_path)
    assert_caught(cheats, results)
    for name, check in SAMPLE.items():
        assert check in {item["check"] for item in results[name]["failed"]}, name
    assert {name: results[name]["failed"] for name in honest} == {name: [] for name in honest}


@pytest.mark.slow
def test_every_cheat_is_caught(tmp_path: Path) -> None:
    assert_caught(RUN_TIME, run_batch(RUN_TIME, tmp_path))


@pytest.mark.slow
def test_every_honest_program_is_accepted(tmp_path: Path) -> None:
    results = run_batch(HONEST, tmp_path)
    assert {name: item["failed"] for name, item in results.items() if item["failed"]} == {}
    assert max(item["seconds"] for item in results.values()) < 10


@pytest.mark.slow
@pytest.mark.parametrize("framework", library.FRAMEWORKS)
def test_every_expert_member_is_accepted(framework: str) -> None:
    for path in library.gallery(framework).values():
        record = gate.gate(path, framework)
        assert record["accepted"], (path.name, [item for item in record["checks"] if not item["passed"]])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, item in HOSTILE.items() if "sandbox" in item.caught_by])
def test_what_never_ends_is_stopped(name: str, tmp_path: Path) -> None:
    item = HOSTILE[name]
    path = tmp_path / "candidate.py"
    path.write_text(item.source)
    record = gate.gate(path, item.framework, settings=Sandbox(memory_gb=2), seconds=30)
    assert not record["accepted"]
    assert {check["layer"] for check in record["checks"] if not check["passed"]} & set(item.caught_by)


def test_an_accepted_record_says_what_was_checked() -> None:
    path = library.standard("matrix_mixer")
    record = gate.gate(path, "matrix_mixer")
    assert record["accepted"]
    assert {check["layer"] for check in record["checks"]} == {"syntax", "integrity", "certificate"}
    assert all(check.keys() - {"meaning"} == KEYS and check["passed"] for check in record["checks"])
    assert set(record["layers"]) == {"environment", "process", "rlimits", "capabilities", "landlock", "seccomp"}


@pytest.mark.slow
def test_equal_files_have_equal_records() -> None:
    path = library.standard("test_time_regression")
    first, second = (json.dumps(gate.gate(path, "test_time_regression"), sort_keys=True) for _ in range(2))
    assert first == second


def test_the_command_prints_one_record_and_says_no_by_its_status(tmp_path: Path) -> None:
    path = tmp_path / "candidate.py"
    path.write_text(HOSTILE["torch.load"].source)
    command = [sys.executable, "-m", "evomix", "gate", str(path), "--framework", "matrix_mixer"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stderr
    record = json.loads(result.stdout)
    assert not record["accepted"]
    assert record["checks"][0]["layer"] == "syntax"


def test_a_worker_that_dies_or_lies_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate that reaches the worker's own machinery can at most fail to be accepted."""
    output = tmp_path / "record.json"
    good = sandbox.SandboxResult(0, {}, 1.0, 0, None, b"", b"")
    for content in (None, "", "[]", "{}", '[{"passed": true}]', '"accepted"'):
        if content is not None:
            output.write_text(content)
        checks = gate.read_records(good, output)
        assert [item["passed"] for item in checks] == [False]
    output.unlink()
    output.symlink_to("/etc/hostname")
    assert not gate.read_records(good, output)[0]["passed"]
    died = sandbox.SandboxResult(-11, {}, 1.0, 0, None, b"", b"Segmentation fault\n")
    hung = sandbox.SandboxResult(-9, {}, 1.0, 0, "time", b"", b"")
    assert gate.read_records(died, output)[0]["check"] == "sandbox.process"
    assert "time" in gate.read_records(hung, output)[0]["hint"]


def test_the_sandbox_costs_little_beyond_the_interpreter(tmp_path: Path) -> None:
    """Five starts of an empty script; the limit of the test is ten times what is measured on a quiet machine."""
    script = tmp_path / "script.py"
    script.write_text("pass")
    started = time.monotonic()
    for _ in range(5):
        sandbox.run([str(script)], readable=[script], scratch=tmp_path, settings=Sandbox(), seconds=60)
    assert (time.monotonic() - started) / 5 < 2
