"""Loading a mechanism file: what is wrong with it is said in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from evomix.errors import UserError
from evomix.mechanisms import library

GOOD = library.standard("coefficient_dynamics").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("def queries(", "def queries(("), "line 27: syntax error"),
        (GOOD.replace("class Mechanism(", "class Other("), "defines no class `Mechanism`"),
        ("Mechanism = 3\n", "defines no class `Mechanism`"),
        ("from evomix.mechanisms.contract import Mechanism\n", "subclasses no framework's contract"),
        ("raise ValueError('no')\n", "raises ValueError while it is loaded: no"),
        (GOOD.replace("    declaration = ", "    declared = "), "has no `declaration`"),
    ],
)
def test_a_bad_file_is_named_with_its_fault(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "candidate.py"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        library.load(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_other_framework_missing_file_and_unknown_framework(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a mechanism of matrix_mixer, not of coefficient_dynamics"):
        library.load(library.standard("matrix_mixer"), "coefficient_dynamics")
    with pytest.raises(UserError, match="missing file"):
        library.load(tmp_path / "absent.py")
    with pytest.raises(UserError, match="unknown framework 'quantum'"):
        library.gallery("quantum")


def test_program_ends_with_the_evolve_block_and_still_loads(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(library.program(library.standard("matrix_mixer")), encoding="utf-8")
    assert path.read_text(encoding="utf-8").endswith(library.BLOCK_END + "\n")
    assert library.load(path, "matrix_mixer").framework == "matrix_mixer"
    with pytest.raises(UserError, match="has no ground truth"):
        library.load_reference(path)
    path.write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(UserError, match="EVOLVE-BLOCK-START"):
        library.program(path)


def test_a_changed_file_is_loaded_anew(tmp_path: Path) -> None:
    path = tmp_path / "candidate.py"
    path.write_text(GOOD, encoding="utf-8")
    first = library.load(path)
    assert library.load(path) is first
    path.write_text(GOOD.replace('readout="exp"', 'readout="other"'), encoding="utf-8")
    assert library.load(path).declaration.describe()["readout"] == "other"
