"""The fingerprint of code: logic counts, wherever it is imported from; comments, docstrings and layout do not."""

from __future__ import annotations

import subprocess
import sys
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


def test_the_package_itself_may_be_imported_from(project: Path) -> None:
    assert fingerprint(project, "evomix.commands.analysis")  # it says `from evomix import settings`


def test_a_missing_module_is_an_error(project: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        fingerprint(project, "evomix.nowhere")


def test_the_cache_gives_the_same_and_is_never_stale(project: Path) -> None:
    cached = list((project / "src/evomix/__pycache__").glob("fingerprints.*.json"))
    assert len(cached) == 1
    warm = fingerprint(project)
    cached[0].write_text("damaged")
    assert fingerprint(project) == warm
    cached[0].unlink()
    assert fingerprint(project) == warm


def test_the_whole_package_costs_little(project: Path) -> None:
    """Measured: 0.23 CPU-seconds at first (0.19 for the modules that rules name), 0.01 ever after.

    The bounds only catch a wrong order of magnitude.
    """
    code = """
import time
from pathlib import Path
from evomix import fingerprint
root = Path(fingerprint.__file__).parent
files = [path.relative_to(root) for path in root.rglob("*.py") if path.name != "__init__.py"]
modules = [".".join(("evomix", *path.with_suffix("").parts)) for path in files]
began = time.process_time()
fingerprint.fingerprint(*modules)
print(time.process_time() - began)
"""
    times = []
    for _ in range(2):
        command = [sys.executable, "-c", code]
        environment = {"PYTHONPATH": str(project / "src")}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        times.append(float(result.stdout))
    assert times[0] < 5
    assert times[1] < 0.5
