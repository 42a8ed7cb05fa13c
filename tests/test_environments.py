"""One set of pins: what the package needs, the conda environments, and the constraints agree."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import yaml

ENVIRONMENTS = ("driver", "train", "analysis")


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
    for name in ENVIRONMENTS:
        environment = yaml.safe_load((root / f"envs/{name}.yaml").read_text())
        pip = next(item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
        assert "-c ../constraints.txt" in pip
        assert "-e .." in pip


def test_the_makefile_installs_the_pinned_torch(root: Path) -> None:
    assert f"torch=={pins(root)['torch']}" in (root / "Makefile").read_text()


def steps(text: str) -> list[str]:
    """Return the pip commands of a recipe."""
    return [
        re.sub(r"^(RUN|&&) ", "", line.strip()).removesuffix(" \\") for line in text.splitlines() if " pip " in line
    ]


def test_container_recipes_install_the_same_pins(root: Path) -> None:
    docker, apptainer = ((root / f"envs/{name}").read_text() for name in ("Dockerfile", "evomix.def"))
    assert steps(docker) == steps(apptainer)
    assert steps(docker)[0].endswith(f"torch=={pins(root)['torch']} -c constraints.txt")
    assert all(step.endswith(" -c constraints.txt") for step in steps(docker))
    assert (
        re.search(r"^FROM (\S+)$", docker, re.MULTILINE)[1] == re.search(r"^From: (\S+)$", apptainer, re.MULTILINE)[1]
    )
    python = {yaml.safe_load((root / f"envs/{name}.yaml").read_text())["dependencies"][0] for name in ENVIRONMENTS}
    assert python == {"python=3.11"}
    assert "FROM python:3.11-" in docker
    copied = {line.split()[0] for line in apptainer.partition("%files")[2].partition("%post")[0].splitlines() if line}
    assert copied == {"constraints.txt", "pyproject.toml", "README.md", "LICENSE", "src"}
    assert all(re.search(rf"^COPY .*\b{re.escape(name)}\b", docker, re.MULTILINE) for name in copied)


def test_the_dockerfile_passes_its_linter(root: Path) -> None:
    command = [str(Path(sys.executable).parent / "hadolint"), "envs/Dockerfile"]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_what_is_installed_has_the_pinned_versions(root: Path) -> None:
    wanted = pins(root)
    found = {re.sub(r"[-_.]+", "-", item.name).lower(): item.version for item in distributions()}
    differing = {name: (found[name], wanted[name]) for name in found if name in wanted and found[name] != wanted[name]}
    assert {name: pair for name, pair in differing.items() if not pair[0].startswith(f"{pair[1]}+")} == {}
