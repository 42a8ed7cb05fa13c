"""Provenance: what made a result. No times and no host names, so that equal studies give equal bytes."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from evomix.artifacts import digest_text
from evomix.fingerprint import fingerprint
from evomix.settings import TuningBudget

PROTOCOL = Path(__file__).resolve().parents[2] / "PROTOCOL.md"
"""The pre-registration at the root of the repository; absent when the package is installed without it."""

PACKAGES = ("torch", "numpy", "scipy", "statsmodels", "optuna", "openevolve", "tokenizers", "snakemake")


def protocol_digest(path: Path = PROTOCOL) -> str | None:
    """Return the SHA-256 of the protocol's text with normalised line ends, or None when the file is absent."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return None
    return digest_text("\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n")


@cache
def commit() -> str:
    """Return the git commit of the code, with `+changes` for an edited tree, or `unknown` outside git."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", str(here)) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def provenance(
    module: str,
    *,
    preset: str | None = None,
    tuning_policy: str | None = None,
    tuning_budget: TuningBudget | None = None,
) -> dict[str, Any]:
    """Return the provenance block of a result made by `module` (and what it imports).

    Whatever rests on tuned hyper-parameters says by which policy and at what budget (`PolicySection.labels`).
    """
    block: dict[str, Any] = {
        "commit": commit(),
        "code": fingerprint(module),
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in PACKAGES},
        "machine": platform.machine(),
        "protocol": protocol_digest(),
    }
    if preset is not None:
        block["preset"] = preset
    if tuning_policy is not None:
        block["tuning_policy"] = tuning_policy
    if tuning_budget is not None:
        block["tuning_budget"] = tuning_budget.model_dump()
    return block
