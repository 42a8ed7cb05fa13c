"""Artifacts: canonical bytes, atomic writes, and one sentence for whatever is wrong with a file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evomix.artifacts import atomic_path, canonical_json, read_json, read_table, write_json, write_table
from evomix.errors import UserError
from evomix.streams import derive, numpy_stream


def test_json_is_canonical(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", "thing", {"b": 1, "a": [math.nan, np.float64(0.5)], "ü": math.inf})
    write_json(tmp_path / "b.json", "thing", {"ü": None, "a": [None, 0.5], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_json(tmp_path / "a.json", "thing")["a"] == [None, 0.5]
    assert canonical_json({"x": 1e-300}).strip().endswith("}")


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")

    def fail_halfway() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "missing file"),
        ("{", "is not valid JSON"),
        ("[]", "is a 'list' where a 'thing' is expected"),
        ('{"schema": "other", "schema_version": 1}', "is a 'other' where a 'thing' is expected"),
        ('{"schema": "thing", "schema_version": 99}', "has schema version 99"),
    ],
)
def test_bad_json_costs_one_sentence(tmp_path: Path, content: str | None, sentence: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=sentence) as error:
        read_json(path, "thing")
    assert str(path) in str(error.value)


def test_tables_have_reproducible_bytes_and_clear_errors(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [0.1, math.nan], "c": ["x", None]})
    write_table(tmp_path / "a.parquet", frame)
    write_table(tmp_path / "b.parquet", frame.copy())
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    pd.testing.assert_frame_equal(read_table(tmp_path / "a.parquet"), frame)
    (tmp_path / "a.parquet").write_text("damaged")
    with pytest.raises(UserError, match="not a readable Parquet table"):
        read_table(tmp_path / "a.parquet")


def test_streams_are_named_and_stable() -> None:
    assert derive(7, "data", 3) == derive(7, "data", "3") != derive(7, "data", 4)
    assert derive(7, "init") == 6713148461799053418
    assert numpy_stream(1, "x").integers(1 << 40) == numpy_stream(1, "x").integers(1 << 40)
