"""Finished results that Snakemake deleted come back without training; damaged ones do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from evomix.training import keeping


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name in keeping.RESULTS:
        (tmp_path / name).write_text(f"content of {name}")
    keeping.keep(tmp_path)
    return tmp_path


def delete(run: Path) -> None:
    for name in keeping.RESULTS:
        (run / name).unlink()


def contents(run: Path) -> dict[str, str]:
    return {name: (run / name).read_text() for name in keeping.RESULTS if (run / name).exists()}


def test_deleted_results_are_restored(run: Path) -> None:
    before = contents(run)
    assert (run / "summary.json").stat().st_nlink == 2  # links cost no space
    delete(run)
    keeping.restore(run)
    assert contents(run) == before
    keeping.keep(run)
    assert contents(run) == before


@pytest.mark.parametrize("damage", ["results", "seal", "missing"])
def test_damaged_results_are_made_again(run: Path, damage: str) -> None:
    if damage == "results":
        with (run / "model.safetensors").open("r+b") as stream:  # in place: the kept link is the same file
            stream.write(b"X")
    elif damage == "seal":
        (run / "finished/seal").write_text("{")
    else:
        (run / "finished/timing.json.kept").unlink()
    delete(run)
    keeping.restore(run)
    assert contents(run) == {}
    assert not (run / "finished").exists()


def test_without_kept_results_nothing_happens(tmp_path: Path) -> None:
    keeping.restore(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_results_are_copied_where_links_are_not_possible(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    before = contents(run)
    monkeypatch.setattr(keeping.os, "link", refuse)
    keeping.keep(run)
    assert (run / "finished/summary.json.kept").stat().st_nlink == 1
    delete(run)
    keeping.restore(run)
    assert contents(run) == before
