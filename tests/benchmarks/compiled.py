"""What compiling the stacked step gains per run: python tests/benchmarks/compiled.py [--runs R] [--pairs N] [--only K].

The engine's own tier: the step is traced, written as text, compiled in the confined process and loaded. It is compared
with runs one after another and with the eager stack; the last columns say after how many steps its CPU seconds (trace
and compilation) are repaid against either. Libraries are not taken from the user's cache.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
from pathlib import Path

import torch
from paired import machine, ratio
from stacking import BATCH, Loop, trainers

from evomix.mechanisms import library
from evomix.mechanisms.contract import Mechanism
from evomix.settings import Sandbox
from evomix.specs import Architecture
from evomix.training import compiling
from evomix.training.compiled import GRAPH, Compiled, trace
from evomix.training.device import keep_memory
from evomix.training.ensemble import Stack

STEPS = 40
"""Steps after which the two ways are compared."""


def whole_cpu_seconds() -> float:
    """Return CPU seconds of this process and of the compilers that it started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def difference(compiled: Compiled, eager: Stack, tokens: torch.Tensor) -> float:
    """Return the largest relative difference in loss after `STEPS` steps, dropout on."""
    for step in range(STEPS):
        ours, theirs = compiled.step(step, tokens)[0], eager.step(step, tokens)[0]
    return ((ours - theirs).abs() / theirs).max().item()


def row(name: str, mechanism: type[Mechanism], architecture: Architecture, runs: int, pairs: int, place: Path) -> str:
    """Return one row of the table."""
    alone = trainers(mechanism, architecture, runs)
    eager = Stack(trainers(mechanism, architecture, runs))
    tokens = torch.randint(architecture.vocabulary, (runs, BATCH, architecture.sequence_length + 1))
    began = whole_cpu_seconds()
    operations = trace(Stack(trainers(mechanism, architecture, runs)), tokens, place)
    made, _ = compiling._library((place / GRAPH).read_text(), shutil.which("g++") or "", Sandbox())
    shutil.copy(made, place)
    compiled = Compiled(Stack(trainers(mechanism, architecture, runs)), place)
    cost = whole_cpu_seconds() - began
    apart = difference(compiled, Stack(trainers(mechanism, architecture, runs)), tokens)

    def one_after_another() -> None:
        for run, trainer in enumerate(alone):
            trainer.step(0, tokens[run])

    stacked, _, plain = ratio(one_after_another, lambda: eager.step(0, tokens), pairs)
    gain, solo, ours = ratio(one_after_another, lambda: compiled.step(0, tokens), pairs)
    repaid = " | ".join(f"{cost / max(other - ours, 1e-9):.0f}" for other in (solo, plain))
    times = f"{1e3 * solo / runs:.2f} → {1e3 * ours / runs:.2f} ms"
    return f"| {name} | {operations} | {stacked:.2f} | {gain:.2f} | {times} | {apart:.0e} | {cost:.0f} s | {repaid} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--only", type=int, help="number of the only row")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    shape = {"width": 16, "layers": 2, "heads": 2, "vocabulary": 64, "sequence_length": 16, "dropout": 0.1}
    tiny = Architecture.model_validate(shape)
    larger = tiny.model_copy(update={"width": 32, "sequence_length": 32, "vocabulary": 256})
    standard = library.load(library.standard("matrix_mixer"))
    rows = [
        ("softmax d16 T16 V64", standard, tiny),
        ("softmax as a loop over T, d16 T16 V64", Loop, tiny),
        ("softmax d32 T32 V256", standard, larger),
    ]
    print(f"{machine()}; R = {arguments.runs}, medians of {arguments.pairs} interleaved pairs\n")
    print(
        "| mechanism | operations | alone / stacked | alone / compiled | per run | difference | cost in CPU time "
        "| repaid after, against alone | against stacked |\n|---|---|---|---|---|---|---|---|---|"
    )
    for each in rows if arguments.only is None else [rows[arguments.only]]:
        with tempfile.TemporaryDirectory() as place:
            os.environ["XDG_CACHE_HOME"] = place
            print(row(*each, arguments.runs, arguments.pairs, Path(place)), flush=True)


if __name__ == "__main__":
    main()
