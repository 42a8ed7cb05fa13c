"""A step late in a long run costs what it costs in a short one: python tests/benchmarks/flat.py [--pairs N].

Trains the tests' tiny run for 300 and for 3,000 steps in turn and compares CPU time per step and peak memory.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from paired import machine, peak_bytes

from evomix.artifacts import read_json
from evomix.training.engine import train
from training_study import make_spec, write_corpus

STEPS = (300, 3_000)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    pairs = parser.parse_args().pairs
    print(f"{machine()}; medians of {pairs} interleaved pairs\n")
    with tempfile.TemporaryDirectory() as place:
        stats = write_corpus(Path(place) / "corpus")
        specs = {
            steps: make_spec(stats, steps=steps, every=steps // 10, checkpoint_every=steps // 4) for steps in STEPS
        }
        train(make_spec(stats, steps=20), Path(place) / "warm")
        peaks = [
            peak_bytes(partial(train, spec, Path(place) / f"memory_{steps}")) / 2**20 for steps, spec in specs.items()
        ]
        times = {steps: [] for steps in STEPS}
        for pair in range(pairs):
            for steps, spec in specs.items():
                train(spec, folder := Path(place) / f"{steps}_{pair}")
                times[steps].append(read_json(folder / "timing.json", "timing")["step_milliseconds"])
    short, long = (statistics.median(each) for each in times.values())
    ratio = statistics.median(late / early for early, late in zip(*times.values(), strict=True))
    print("| | 300 steps | 3,000 steps | ratio |\n|---|---|---|---|")
    print(f"| CPU time of a step | {short:.2f} ms | {long:.2f} ms | {ratio:.2f} |")
    print(f"| peak memory above the start | {peaks[0]:.1f} MB | {peaks[1]:.1f} MB | {peaks[1] - peaks[0]:+.1f} MB |")


if __name__ == "__main__":
    main()
