"""Run the real workflow in a copy of the project, for tests: dry-run job counts, and finished studies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def snakemake(
    project: Path, *arguments: str, preset: str = "test", check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run snakemake in `project` with its own package sources and a preset; stdout and stderr are joined."""
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable, "-m", "snakemake", *arguments, "--cores", "2",
        "--configfile", f"config/presets/{preset}.yaml",
    ]  # fmt: skip
    result = subprocess.run(
        command, cwd=project, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if check and result.returncode:
        raise AssertionError(f"snakemake {' '.join(arguments)} failed:\n{result.stdout[-6000:]}")
    return result


def planned(project: Path, *arguments: str, preset: str = "test") -> dict[str, int]:
    """Return rule → number of jobs of a dry run, without the default target."""
    text = snakemake(project, "all", "-n", "-q", "rules", "host", *arguments, preset=preset).stdout
    counts = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", text, flags=re.MULTILINE)}
    counts.pop("total", None)
    counts.pop("all", None)
    return counts


def pretend_finished(project: Path, preset: str = "test", arguments: tuple[str, ...] = ()) -> None:
    """Give every output of the study a placeholder and let Snakemake record it as made by the present code and config.

    Only the questions `what would be redone, and why` may be asked of such a study; its files hold nothing.
    """
    summary = snakemake(project, "all", "--summary", *arguments, preset=preset).stdout
    for line in summary.splitlines():
        name = line.split("\t")[0]
        if not name.startswith("results/"):
            continue
        path = project / name
        if path.name in ("population", "tables", "variants"):
            path.mkdir(parents=True, exist_ok=True)
            path = path / "placeholder"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    snakemake(project, "all", "--touch", "--forceall", *arguments, preset=preset)
