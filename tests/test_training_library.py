"""Kept libraries of compiled steps: taken, checked, bounded, and safe among jobs that make and remove them at once."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from evomix.artifacts import digest_file
from evomix.errors import UserError
from evomix.settings import Sandbox
from evomix.specs import Execution
from evomix.training import compiling
from training_study import EXECUTION

SIZE = 1_000
COMPILER = "/usr/bin/g++"


def stand_in(made: Path) -> Callable[..., Path]:
    """Return what stands for the compiler: a library of SIZE bytes that depend on the graph, and a mark in `made`."""

    def compile_(text: str, compiler: str, place: Path, settings: Sandbox, execution: Execution) -> Path:
        (made / f"{text}_{os.getpid()}_{len(list(made.iterdir()))}").touch()
        (place / "step.compiled").write_bytes((text.encode() * SIZE)[:SIZE])
        return place / "step.compiled"

    return compile_


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of marks of what was compiled."""
    (tmp_path / "made").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiling, "_compile", stand_in(tmp_path / "made"))
    monkeypatch.setattr(compiling, "_key", lambda text, compiler, execution: text)
    monkeypatch.setattr(compiling, "MOST_BYTES_KEPT", 3 * SIZE)
    return tmp_path / "made"


def fetch(text: str, place: Path) -> bytes:
    """Return the library of a graph as it reaches the training."""
    place.mkdir(parents=True)
    compiling.fetch_library(text, COMPILER, Sandbox(), EXECUTION, place)
    (library,) = place.glob("*.compiled")
    return library.read_bytes()


def test_a_library_is_compiled_once_and_again_when_it_is_damaged(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = fetch("a", tmp_path / "1")
    assert fetch("a", tmp_path / "2") == whole
    assert len(list(made.iterdir())) == 1
    (kept,) = compiling.cache_folder().glob("*.compiled")
    (half_written := kept.with_name(f".{kept.name}.x1y2")).touch()
    for damage in (whole[:-1], b"", bytes(SIZE)):
        kept.write_bytes(damage)
        assert fetch("a", tmp_path / f"after {len(list(made.iterdir()))}") == whole
    assert len(list(made.iterdir())) == 4
    assert not half_written.exists()
    assert caplog.text.count("is damaged; it is compiled again") == 3
    assert digest_file(kept)[:32] in kept.name


def test_a_refusal_is_remembered_and_a_limit_is_not(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def refuse(text: str, *rest: object) -> Path:
        tried.append(text)
        raise UserError("over its limit of memory") if text == "a" else compiling._CannotCompileError("TypeError: no")

    monkeypatch.setattr(compiling, "_compile", refuse)
    for turn in range(2):
        for text, sentence in (("a", "over its limit"), ("b", "TypeError: no")):
            with pytest.raises(UserError, match=sentence):
                fetch(text, tmp_path / f"{text}{turn}")
    assert tried == ["a", "b", "a"]


def test_the_least_recently_used_libraries_go(made: Path, tmp_path: Path) -> None:
    for text in "abc":
        fetch(text, tmp_path / text)
    for age, path in enumerate(sorted(compiling.cache_folder().glob("*.compiled"))):
        os.utime(path, (1_000 + age, 1_000 + age))
    fetch("a", tmp_path / "a again")
    fetch("d", tmp_path / "d")
    assert sorted(path.name[0] for path in compiling.cache_folder().iterdir()) == [*"aaccdd"], (
        "a library and a lock each"
    )


def test_a_library_in_use_stays(made: Path, tmp_path: Path) -> None:
    fetch("a", tmp_path / "a")
    with compiling._alone(compiling.cache_folder(), "a", wait=True):
        for text in "bcd":
            fetch(text, tmp_path / text)
        assert {path.name[0] for path in compiling.cache_folder().glob("*.compiled")} == {*"acd"}


def _job(seed: int, folder: Path, texts: str) -> None:
    for turn in range(40):
        text = texts[(seed + turn * (1 + seed)) % len(texts)]
        assert fetch(text, folder / f"{seed}_{turn}") == (text.encode() * SIZE)[:SIZE]


def test_jobs_that_make_and_remove_libraries_at_once_do_not_disturb_each_other(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [
        multiprocessing.get_context("fork").Process(target=_job, args=(seed, tmp_path / "jobs", "abcdefg"))
        for seed in range(6)
    ]
    with caplog.at_level(logging.WARNING):
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
    assert [job.exitcode for job in jobs] == [0] * 6
    left = list(compiling.cache_folder().glob("*.compiled"))
    assert 1 <= len(left) <= 3
    assert all(digest_file(path)[:32] == path.name.split(".")[1] for path in left)
    assert len(list(made.iterdir())) < 240
