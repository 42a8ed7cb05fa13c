"""What stacking runs gains per run: python tests/benchmarks/stacking.py [--runs R] [--pairs N].

For every member of the gallery: CPU time of R runs one after another over that of the stack, at a tiny size (width 16,
16 tokens), and whether the mechanism can be stacked at all; then the standard as a loop over time, and over growing
models.
"""

from __future__ import annotations

import argparse
import logging
from functools import partial

import torch
from paired import machine, ratio

from evomix.mechanisms import library
from evomix.mechanisms.contract import Mechanism
from evomix.model.flops import forward_flops
from evomix.model.transformer import Transformer
from evomix.specs import Architecture, Execution, Optimisation
from evomix.training.device import keep_memory
from evomix.training.ensemble import Stack
from evomix.training.trainer import Trainer

BATCH = 16


class Loop(library.load(library.standard("matrix_mixer"))):  # type: ignore[misc]
    """Softmax attention as a python loop over time: one query after another."""

    def forward(self, x_BTD: torch.Tensor, v_BHTP: torch.Tensor) -> torch.Tensor:
        q, k = self.split_heads(self.query(x_BTD)), self.split_heads(self.key(x_BTD))
        rows = []
        for t in range(x_BTD.shape[-2]):
            score = (k[..., : t + 1, :] * q[..., t : t + 1, :]).sum(-1) / q.shape[-1] ** 0.5
            rows.append((torch.softmax(score, -1).unsqueeze(-1) * v_BHTP[..., : t + 1, :]).sum(-2))
        return torch.stack(rows, -2)


def trainers(mechanism: type[Mechanism], architecture: Architecture, runs: int) -> list[Trainer]:
    """Return runs of one mechanism with different seeds."""
    execution = Execution.model_validate({"device": "cpu", "precision": "float32", "checkpoint_every": 1})
    optimisation = Optimisation(
        steps=1000, batch_size=BATCH, learning_rate=1e-3, warmup_steps=10, weight_decay=0.01, clip=1.0
    )
    return [Trainer(Transformer(architecture, mechanism, s), optimisation, execution, s) for s in range(runs)]


def row(name: str, mechanism: type[Mechanism], architecture: Architecture, runs: int, pairs: int) -> str:
    """Return one row of the table."""
    alone = trainers(mechanism, architecture, runs)
    tokens = torch.randint(architecture.vocabulary, (runs, BATCH, architecture.sequence_length + 1))
    dispatches = alone[0].count_dispatches(tokens[0])
    flops = 3 * forward_flops(alone[0].model)["total"] * BATCH * architecture.sequence_length
    try:
        stack = Stack(trainers(mechanism, architecture, runs))
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
    parser.add_argument("--frameworks", nargs="*", default=library.FRAMEWORKS)
    arguments = parser.parse_args()
    logging.basicConfig()
    torch.set_num_threads(1)
    keep_memory()
    print(f"{machine()}; R = {arguments.runs}, medians of {arguments.pairs} interleaved pairs\n")
    print(
        "| mechanism | operations per step | FLOPs per operation | alone / stacked | per run |\n|---|---|---|---|---|"
    )
    shape = {"width": 16, "layers": 2, "heads": 2, "vocabulary": 64, "sequence_length": 16, "dropout": 0.1}
    small = Architecture.model_validate(shape)
    for framework in arguments.frameworks:
        for member, path in library.gallery(framework).items():
            print(row(f"{framework} {member}", library.load(path), small, arguments.runs, arguments.pairs), flush=True)
    standard = library.load(library.standard("matrix_mixer"))
    print(row("softmax as a loop over T", Loop, small, arguments.runs, arguments.pairs), flush=True)
    growing = ((16, 16, 64), (32, 16, 64), (16, 32, 256), (32, 32, 256), (16, 64, 512), (32, 64, 512), (64, 128, 2048))
    for width, length, vocabulary in growing:
        larger = small.model_copy(update={"width": width, "sequence_length": length, "vocabulary": vocabulary})
        name = f"softmax d{width} T{length} V{vocabulary}"
        print(row(name, standard, larger, arguments.runs, arguments.pairs), flush=True)


if __name__ == "__main__":
    main()
