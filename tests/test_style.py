"""The house rules that a program can check: formatters, linters, types, sizes of files, no paths of one machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = {
    "ruff check": ["ruff", "check", "src", "tests"],
    "ruff format": ["ruff", "format", "--check", "src", "tests"],
    "mypy": ["mypy"],
    "snakefmt": ["snakefmt", "--check", "Snakefile", "workflow"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_tools_are_content(root: Path, name: str) -> None:
    program, *arguments = COMMANDS[name]
    command = [str(Path(sys.executable).parent / program), *arguments]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]


def sources(root: Path) -> list[Path]:
    return [
        path
        for top in ("src", "workflow", "tests")
        for path in (root / top).rglob("*")
        if path.suffix in (".py", ".smk")
    ]


def test_no_file_is_long_and_every_module_says_what_and_why(root: Path) -> None:
    for path in sources(root):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 350, f"{path} has {len(text.splitlines())} lines; split it by what it is about"
        if text.strip() and "programs" not in path.parts:
            assert '"""' in text[:400], f"{path} has no docstring"


def test_package_inits_are_empty(root: Path) -> None:
    """Fingerprints follow imports: an __init__ that imports makes every closure the whole package."""
    for path in (root / "src/evomix").rglob("__init__.py"):
        assert path.parent.name == "evomix" or not path.read_text().strip(), path


def test_no_paths_of_one_machine(root: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=False).stdout.split()
    for name in tracked:
        path = root / name
        if (
            path.is_file()
            and path.suffix in {".py", ".smk", ".md", ".yaml", ".toml", ""}
            and name != "tests/test_style.py"
        ):
            found = re.search(
                r"(?:^|[^.\w])/(?:work|home/\w+|farm)/", path.read_text(encoding="utf-8", errors="replace")
            )
            assert not found, f"{name} names a path of one machine: {found.group()}"
