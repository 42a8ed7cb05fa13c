"""Shared by all tests: one thread per process, and a copy of the project that tests may edit."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


def copy_project(target: Path) -> Path:
    """Copy what the workflow needs into `target`, where it may be run and edited."""
    for name in ("Snakefile", "PROTOCOL.md", "constraints.txt", "pyproject.toml"):
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("workflow", "config", "src", "envs", "profiles"):
        shutil.copytree(ROOT / name, target / name, ignore=ignored, dirs_exist_ok=True)
    return target
