"""The fingerprint of code: logic counts, wherever it is imported from; comments, docstrings and layout do not."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import copy_project

MODULE = "evomix.training.engine"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("fingerprint") / "evomix")


def fingerprint(project: Path, module: str = MODULE) -> str:
    """Return the fingerprint as a fresh interpreter on the copy computes it."""
    code = f"from evomix.fingerprint import fingerprint; print(fingerprint({module!r}))"
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": str(project / "src"), "PYTHONHASHSEED": "random"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("file", "old", "new", "same"),
    [
        ("training/engine.py", "import logging\n", "import logging  # a comment\n\n\n", True),
        ("training/engine.py", '"""The training engine', '"""A new docstring. The training engine', True),
        ("training/engine.py", "BLOCK = 50", "BLOCK = 51", False),
        ("training/schedule.py", "def learning_rate(", "IMPORTED = 1\n\n\ndef learning_rate(", False),
        ("settings.py", "FRAMEWORKS:", "ADDED = 1\nFRAMEWORKS:", True),
        ("figures/style.py", "from __future__", "UNRELATED = 1\nfrom __future__", True),
    ],
)
def test_what_counts(project: Path, file: str, old: str, new: str, same: bool) -> None:
    path = project / "src/evomix" / file
    before, text = fingerprint(project), path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1) if "UNRELATED" not in new else text + "\nUNRELATED = 1\n")
    try:
        assert (fingerprint(project) == before) is same
    finally:
        path.write_text(text)


def test_prompts_and_templates_count_for_their_own_phase(project: Path) -> None:
    template = next((project / "src/evomix/report").rglob("*.j2"))
    report, engine, text = fingerprint(project, "evomix.report.build"), fingerprint(project), template.read_text()
    template.write_text(text + "\n")
    try:
        assert fingerprint(project, "evomix.report.build") != report
        assert fingerprint(project) == engine
    finally:
        template.write_text(text)


def test_a_missing_module_is_an_error(project: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        fingerprint(project, "evomix.nowhere")


def test_the_whole_package_costs_little() -> None:
    from evomix import fingerprint as module

    modules = (
        "evomix.evolution.evaluate",
        "evomix.training.engine",
        "evomix.report.build",
        "evomix.statistics.validation",
    )
    module._module.cache_clear()
    module.fingerprint.cache_clear()
    began = time.process_time()
    module.fingerprint(*modules)
    assert time.process_time() - began < 2.0  # measured 0.15 s; the bound only catches a wrong order of magnitude
