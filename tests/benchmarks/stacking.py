"""What stacking runs gains per run: python tests/benchmarks/stacking.py [--runs R] [--pairs N].

For every member of the gallery: CPU time of R runs one after another over that of the stack, at the size of the demo, and
whether the mechanism can be stacked at all; then the break-even, for the standard, over growing models.
"""

from __future__ import annotations

import argparse
import logging
from functools import partial
from pathlib import Path

import torch
from paired import machine, ratio

from evomix.mechanisms import library
from evomix.model.flops import forward_flops
from evomix.model.transformer import Transformer
from evomix.specs import Architecture, Execution, Optimisation
from evomix.training.ensemble import Stack
from evomix.training.trainer import Trainer

BATCH = 16


def trainers(path: Path, architecture: Architecture, runs: int) -> list[Trainer]:
    """Return runs of one mechanism with different seeds."""
    execution = Execution.model_validate({"device": "cpu", "precision": "float32", "checkpoint_every": 1})
    optimisation = Optimisation(
        steps=1000, batch_size=BATCH, learning_rate=1e-3, warmup_steps=10, weight_decay=0.01, clip=1.0
    )
    mechanism = library.load(path)
    return [Trainer(Transformer(architecture, mechanism, s), optimisation, execution, s) for s in range(runs)]


def row(name: str, path: Path, architecture: Architecture, runs: int, pairs: int) -> str:
    """Return one row of the table."""
    alone = trainers(path, architecture, runs)
    tokens = torch.randint(architecture.vocabulary, (runs, BATCH, architecture.sequence_length + 1))
    dispatches = alone[0].count_dispatches(tokens[0])
    flops = 3 * forward_flops(alone[0].model)["total"] * BATCH * architecture.sequence_length
    try:
        stack = Stack(trainers(path, architecture, runs))
        stack.step(0, tokens)
    except Exception as error:
        return f"| {name} | {dispatches} | {flops / dispatches:.1e} | no ({type(error).__name__}) | |"

    def one_after_another() -> None:
        for run, trainer in enumerate(alone):
            trainer.step(0, tokens[run])

    value, plain, ours = ratio(one_after_another, partial(stack.step, 0, tokens), pairs)
    times = f"{1e3 * plain / runs:.1f} → {1e3 * ours / runs:.1f} ms"
    return f"| {name} | {dispatches} | {flops / dispatches:.1e} | {value:.2f} | {times} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    logging.basicConfig()
    torch.set_num_threads(1)
    print(f"{machine()}; R = {arguments.runs}, medians of {arguments.pairs} interleaved pairs\n")
    print(
        "| mechanism | operations per step | FLOPs per operation | alone / stacked | per run |\n|---|---|---|---|---|"
    )
    shape = {"width": 32, "layers": 2, "heads": 2, "vocabulary": 512, "sequence_length": 64, "dropout": 0.1}
    small = Architecture.model_validate(shape)
    for framework in library.FRAMEWORKS:
        for member, path in library.gallery(framework).items():
            print(row(f"{framework} {member}", path, small, arguments.runs, arguments.pairs), flush=True)
    standard = library.standard("matrix_mixer")
    for width, length, vocabulary in ((16, 32, 256), (48, 64, 512), (64, 128, 512), (64, 128, 2048)):
        larger = small.model_copy(update={"width": width, "sequence_length": length, "vocabulary": vocabulary})
        name = f"softmax d{width} T{length} V{vocabulary}"
        print(row(name, standard, larger, arguments.runs, arguments.pairs), flush=True)


if __name__ == "__main__":
    main()
