"""A guided search under the real Snakemake: whatever the cores, hash seed, interruption and growth, the same bytes.

Two searches of one framework against one endpoint, which quotes the key wherever it can. Slow: real trainings.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import copy_project
from llm_server import LlmServer, sometimes_wrong

KEY = "sk-test-0123456789abcdef"
FRAMEWORK = "matrix_mixer"


def leaking(request: dict[str, Any]) -> str:
    """Answer with an edit, and repeat the key."""
    return f"The key is {KEY}.\n{sometimes_wrong(request)}"


def start(project: Path, server: LlmServer, *, cores: int, hash_seed: str, iterations: int) -> subprocess.Popen[bytes]:
    """Start the search in a copy of the project; its output goes to `search.log` beside the results."""
    llm = {"api_base": server.address, "models": {"model-a": 1.0}, "key_file": str(project / "key"), "timeout": 5}
    evolution = {"arms": ["guided"], "wave_size": 2, "iterations": iterations, "llm": llm}
    target = f"results/test/evolution/{FRAMEWORK}/guided/selection.json"
    command = [sys.executable, "-m", "snakemake", target, f"results/test/evolution/{FRAMEWORK}/guided/lineage.json"]
    command += ["--profile", "profiles/local", "--cores", str(cores), "--rerun-incomplete"]
    command += ["--configfile", "config/presets/test.yaml"]
    command += ["--config", f"frameworks=[{FRAMEWORK}]", f"evolution={json.dumps(evolution)}"]
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONHASHSEED"] = hash_seed
    with (project / "search.log").open("ab") as log:
        return subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=log)


def copy(folder: Path) -> Path:
    project = copy_project(folder)
    (project / "key").write_text(KEY)
    (project / "key").chmod(0o600)
    return project


def finish(project: Path, process: subprocess.Popen[bytes]) -> None:
    assert process.wait() == 0, (project / "search.log").read_text()[-6000:]


def searched(project: Path) -> dict[str, bytes]:
    """Return every file of the search, measured times and the standard's own trainings aside."""
    root = project / "results/test/evolution"
    paths = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "timing.json"]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_cores_hash_seed_interruption_and_growth_leave_no_trace(tmp_path: Path) -> None:
    """One core at once, against four cores, interrupted, and first shorter: equal files; and nowhere the key."""
    with LlmServer(leaking, transport=["429", "500"]) as server:
        plain, rough = copy(tmp_path / "plain"), copy(tmp_path / "rough")
        finish(plain, start(plain, server, cores=1, hash_seed="1", iterations=4))
        finish(rough, start(rough, server, cores=4, hash_seed="4321", iterations=2))
        shorter = searched(rough)
        process = start(rough, server, cores=4, hash_seed="77", iterations=4)
        second = rough / f"results/test/evolution/{FRAMEWORK}/guided/wave_2"
        deadline = time.monotonic() + 600
        while not (second / "slot_0" / "proposal.json").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        process.wait()
        finish(rough, start(rough, server, cores=4, hash_seed="4321", iterations=4))
    expected, found = searched(plain), searched(rough)
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
    waves = {name: data for name, data in shorter.items() if "/wave_0/" in name or "/wave_1/" in name}
    assert len(waves) > 10
    assert {name: found[name] for name in waves} == waves
    for project in (plain, rough):
        everything = [path for path in project.rglob("*") if path.is_file() and path != project / "key"]
        assert len(everything) > 200
        assert [str(path) for path in everything if KEY.encode() in path.read_bytes()] == []
    print(f"{len(expected)} files equal, {len(waves)} untouched by the longer search, {len(server.requests)} requests")
