"""The key of the language model: in no listing of processes, and in no process that runs a candidate."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evolution_study import Search, standard
from evomix.artifacts import canonical_json
from evomix.settings import KEY_VARIABLE, Llm, Proposing
from evomix.specs import write_spec
from llm_server import LlmServer, edit

KEY = "sk-test-0123456789abcdef"


def shown(what: str) -> dict[int, bytes]:
    """Return `cmdline` or `environ` of every process of the machine that may be read."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                found[int(folder.name)] = (folder / what).read_bytes()
    return found


def family(root: int) -> set[int]:
    """Return the ids of a process and of its descendants."""
    parents = {}
    for number, text in shown("stat").items():
        parents[number] = int(text.rsplit(b")", 1)[1].split()[1])
    found = {root}
    while more := {number for number, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@pytest.mark.parametrize("source", ["file", "environment"])
def test_no_listing_of_processes_shows_the_key(tmp_path: Path, source: str) -> None:
    """While an endpoint is asked for an answer, no command line holds the key, nor, from a file, any environment."""
    seen: list[bytes] = []

    def watch(request: dict[str, Any]) -> str:
        seen.extend(shown("cmdline").values())
        if source == "file":
            seen.extend(shown("environ").values())
        return edit(request)

    key_file = tmp_path / "key"
    if source == "file":
        key_file.write_text(KEY)
        key_file.chmod(0o600)
    with LlmServer(watch) as server:
        llm = Llm(api_base=server.address, models={"model-a": 1.0}, key_file=str(key_file))
        proposing = Proposing(wave_size=1, population=4, llm=llm)
        search = Search(tmp_path / "search", arm="guided", proposing=proposing)
        section, spec = tmp_path / "evolution.json", tmp_path / "spec.json"
        section.write_text(canonical_json(proposing.model_dump(mode="json")))
        write_spec(spec, search.spec)
        command = [sys.executable, "-m", "evomix", "propose", str(search.population(0)), "--section", str(section)]
        command += ["--spec", str(spec), "--arm", "guided", "--wave", "1", "--output", str(search.home / "wave_1")]
        environment = {**os.environ, **({KEY_VARIABLE: KEY} if source == "environment" else {})}
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    assert server.keys == [KEY]
    assert len(seen) > 3
    assert not [text for text in seen if KEY.encode() in text]
    assert KEY not in result.stdout + result.stderr


@pytest.mark.slow
def test_jobs_that_run_candidates_forget_the_key() -> None:
    """A key in the workflow's environment is gone from the gate's process and from the sandbox below it."""
    command = [sys.executable, "-m", "evomix", "gate", str(standard("matrix_mixer")), "--framework", "matrix_mixer"]
    environment = {**os.environ, KEY_VARIABLE: KEY}
    below: list[bytes] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        while process.poll() is None:
            members = family(process.pid)
            if len(members) > 1:
                below += [text for number, text in shown("environ").items() if number in members]
            time.sleep(0.02)
    assert process.returncode == 0
    assert len(below) > 2
    assert not [text for text in below if KEY.encode() in text]
