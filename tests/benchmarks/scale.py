"""What a dry run costs as studies grow: python tests/benchmarks/scale.py [ITERATIONS ...].

The paper with three arms, for every number of search iterations: jobs, CPU-seconds, peak memory of Snakemake. CPU time
is the measure because it holds on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def dry_run(iterations: int, folder: Path) -> tuple[int, float, float]:
    """Return jobs, CPU-seconds and peak memory in MB of one dry run of the paper with three arms."""
    overlay, printed = folder / "scale.yaml", folder / "dry_run.txt"
    arms = "[guided, best_of_n, random]"
    overlay.write_text(f"preset: scale\nevolution:\n  arms: {arms}\n  iterations: {iterations}\n")
    command = [sys.executable, "-m", "snakemake", "all", "-n", "-q", "rules", "host", "--cores", "1"]
    child = os.fork()
    if not child:
        os.chdir(ROOT)
        os.dup2(os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.execv(sys.executable, [*command, "--configfile", str(overlay)])
    _, status, used = os.wait4(child, 0)
    total = re.search(r"^total +(\d+)$", printed.read_text(), re.MULTILINE)
    if status or not total:
        sys.exit(f"the dry run failed: {printed.read_text()[-500:]}")
    return int(total[1]), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    """Print one line per number of iterations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("iterations", type=int, nargs="*", default=[35, 780, 3980])
    with tempfile.TemporaryDirectory() as folder:
        for iterations in parser.parse_args().iterations:
            jobs, seconds, memory = dry_run(iterations, Path(folder))
            print(f"{iterations} iterations: {jobs} jobs, {seconds:.1f} CPU-s, {memory:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
