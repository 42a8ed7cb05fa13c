"""The jobs of a preset, from Snakemake's own dry run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from evomix.errors import UserError

CONFIG = Path("config/config.yaml")


def overlay(preset: str) -> Path | None:
    """Return the file of a preset's overlay, None for the paper; UserError when there is no such preset."""
    if preset == "paper":
        return None
    path = Path(preset) if preset.endswith((".yaml", ".yml")) else Path(f"config/presets/{preset}.yaml")
    if not path.is_file():
        known = ", ".join(["paper", *sorted(item.stem for item in path.parent.glob("*.yaml"))])
        raise UserError(
            f"there is no preset {preset!r} ({path} is missing); choose one of {known}, or give a YAML file"
        )
    return path


def merged(preset: str) -> dict[str, Any]:
    """Return the raw config of a preset, merged as Snakemake merges it; run in the project's folder."""
    from snakemake.utils import update_config  # type: ignore[import-untyped]

    if not CONFIG.is_file():
        raise UserError(f"there is no {CONFIG} here; run from the project's folder")
    content: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    path = overlay(preset)
    if path:
        update_config(content, yaml.safe_load(path.read_text(encoding="utf-8")))
    return content


def count(preset: str, *, everything: bool) -> dict[str, int]:
    """Return rule → number of jobs of a dry run: of the whole study, or of what is left of it."""
    path = overlay(preset)
    command = [sys.executable, "-m", "snakemake", "all", "--dry-run", "--quiet", "rules", "host", "--cores", "1"]
    command += ["--forceall"] if everything else []
    command += ["--configfile", str(path)] if path else []
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]
        raise UserError(f"the dry run of preset {preset} failed: {lines[-1] if lines else 'it said nothing'}")
    found = re.findall(r"^(\w+) +(\d+)$", result.stdout + result.stderr, flags=re.MULTILINE)
    return {rule: int(number) for rule, number in found if rule not in ("total", "all", "job")}
