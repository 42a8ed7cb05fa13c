"""One set of pins: what the package needs, the conda environments, and the constraints agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml


def pins(root: Path) -> dict[str, str]:
    """Return package → exact version of constraints.txt."""
    lines = (root / "constraints.txt").read_text().splitlines()
    return {
        re.sub(r"[-_.]+", "-", name).lower(): version
        for name, version in (line.split("==") for line in lines if line and not line.startswith("#"))
    }


def test_every_dependency_is_pinned_exactly(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = [re.sub(r"[-_.]+", "-", re.split(r"[\[<>=]", item)[0]).lower() for item in wanted]
    assert not [name for name in names if name not in pins(root)]
    assert pins(root)["torch"] == "2.13.0"


def test_conda_environments_use_the_same_pins(root: Path) -> None:
    for name in ("driver", "train", "analysis"):
        environment = yaml.safe_load((root / f"envs/{name}.yaml").read_text())
        pip = next(item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
        assert "-c ../constraints.txt" in pip
        assert "-e .." in pip


def test_the_makefile_installs_the_pinned_torch(root: Path) -> None:
    assert f"torch=={pins(root)['torch']}" in (root / "Makefile").read_text()
