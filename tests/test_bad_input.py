"""Bad input, the whole workflow: whatever is wrong costs one sentence that names the thing and the mend.

Every case spoils one thing of a sound small study and runs the real command that reads it. The command must end with
status 2 and one line, and every other file must stand as before: a mistake never costs a result.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bad_input_bench import build, evomix, inside
from bad_input_cases import CASES, DESIGN, Spoil
from conftest import copy_project

NOBODY = 65534


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sound study."""
    study = tmp_path_factory.mktemp("bad_input") / "study"
    build(study)
    return study


def files(folder: Path) -> dict[str, bytes]:
    """Return every file by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("kind", "spoil", "command", "words"), CASES, ids=[case[0] for case in CASES])
def test_bad_input_costs_one_sentence_and_no_result(
    sound: Path, tmp_path: Path, kind: str, spoil: Spoil, command: tuple[str, ...], words: str
) -> None:
    study = tmp_path / "study"
    shutil.copytree(sound, study)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with inside(study):
        spoil()
        before = files(study)
        try:
            status, printed = evomix(*command)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        after = files(study)
    assert (status, printed.count("\n")) == (2, 1), printed
    assert printed.startswith("error: ")
    assert words in printed
    assert {name: after.get(name) for name in before} == before, f"{kind}: a file was lost or changed"


SNAKEMAKE = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from snakemake.cli import main

said = []
for case in json.loads(sys.argv[1]):
    if "--without-evomix" in case:
        case.remove("--without-evomix")
        sys.modules["evomix.config"] = None
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            main([*case, "--cores", "1"])
            status = 0
        except SystemExit as end:
            status = end.code
    said.append([status, printed.getvalue()])
print(json.dumps(said))
"""
TEST = ("--configfile", "config/presets/test.yaml")
WORKFLOW: list[tuple[str, tuple[str, ...], str]] = [
    ("unknown key", (*TEST, "--config", 'training={"stepz": 3}'), "the nearest valid key is `training.steps`"),
    ("wrong type", (*TEST, "--config", 'training={"steps": "many"}'), "`training.steps` is 'many'"),
    ("too small", (*TEST, "--config", 'training={"steps": -3}'), "`training.steps` is '-3'"),
    ("unknown framework", (*TEST, "--config", "frameworks=[rnn]"), "`frameworks.0` is 'rnn'"),
    ("unknown arm", (*TEST, "--config", 'evolution={"arms": ["clever"]}'), "`evolution.arms.0` is 'clever'"),
    ("unknown opponent", (*TEST, "--config", 'validation={"candidate": {"matrix_mixer": "rnn"}}'), "names 'rnn'"),
    ("name with a slash", (*TEST, "--config", "preset=../x"), "`preset` is '../x'"),
    ("not YAML", ("--configfile", "broken.yaml"), "Config file is not valid JSON or YAML"),
    ("not a mapping", ("--configfile", "list.yaml"), "with keys at top level"),
    ("no such target", ("nonsense.txt", *TEST), "No rule to produce nonsense.txt"),
    ("results in the way", (*TEST, "--config", "preset=blocked"), "cannot write to results/blocked"),
    ("package missing", (*TEST, "--without-evomix"), "run `make env` and use .venv/bin/snakemake"),
]


@pytest.fixture(scope="module")
def workflow_said(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str]]:
    """Status and words of Snakemake for every case, asked in one process: importing it costs more than the cases."""
    project = copy_project(tmp_path_factory.mktemp("bad_workflow") / "evomix")
    (project / "broken.yaml").write_text("training: {steps: 3\n")
    (project / "list.yaml").write_text("- a\n- b\n")
    (project / "results").mkdir()
    (project / "results/blocked").write_text("a file where a folder should be")
    cases = json.dumps([["-n", *arguments] if len(arguments) else [] for _, arguments, _ in WORKFLOW])
    environment = {**os.environ, "PYTHONPATH": str(project / "src")}
    command = [sys.executable, "-c", SNAKEMAKE, cases]
    result = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=True)
    return [(status, words) for status, words in json.loads(result.stdout.splitlines()[-1])]


@pytest.mark.parametrize("number", range(len(WORKFLOW)), ids=[case[0] for case in WORKFLOW])
def test_mistakes_in_config_and_targets(workflow_said: list[tuple[int, str]], number: int) -> None:
    status, said = workflow_said[number]
    assert status == 1
    assert WORKFLOW[number][2] in said
    assert "Traceback" not in said


def test_a_preset_that_does_not_exist(root: Path) -> None:
    command = ["make", "--dry-run", "demo", "PRESET=nowhere"]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "there is no preset nowhere; choose one of demo pilot test paper" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize(
    ("path", "mode", "words"),
    [
        ("config/tuning.json", 0o600, "cannot read config/tuning.json: Permission denied; check its permissions"),
        ("design", 0o755, "cannot write design/new.json: Permission denied; check the folder's permissions"),
    ],
)
def test_modes_of_files_cost_one_sentence(sound: Path, tmp_path: Path, path: str, mode: int, words: str) -> None:
    study = tmp_path / "study"
    shutil.copytree(sound, study)
    (study / "design").mkdir()
    with inside(study):
        assert evomix(*DESIGN)[0] == 0
        Path(path).chmod(mode)
        before = files(study)
        os.seteuid(NOBODY)
        try:
            status, printed = evomix(*DESIGN)
        finally:
            os.seteuid(0)
    assert (status, printed.count("\n")) == (2, 1), printed
    assert words in printed
    assert files(study) == before
