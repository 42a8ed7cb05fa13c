"""The engine on a GPU, in one short command: python tests/benchmarks/gpu.py [--steps N] [--runs R] [--device D].

At the study's four sizes (batch 64, 128 tokens, vocabulary 16,384, bfloat16): minutes per 100,000 steps of the plain
loop (fp32, its wait per step and all), of eager steps, of captured steps, and per run of R stacked seeds, captured;
then the share of the roofline that the captured step reaches, by the plan's model of a step. Last, what determinism
costs at the first size. Wall time with the device drained before and after; a size takes seconds.
`--device cpu --tiny` is a rehearsal: the same code on a machine without a GPU, whose numbers mean nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import yaml
from plain_loop import PlainTransformer, train
from torch.nn import functional as F

from evomix.config import load_config
from evomix.mechanisms import library
from evomix.model.transformer import Transformer
from evomix.plan import clock
from evomix.specs import Architecture, Execution, Optimisation
from evomix.training.device import open_device
from evomix.training.ensemble import Stack
from evomix.training.graph import capture
from evomix.training.trainer import Trainer

Step = Callable[[int, torch.Tensor], object]
PLAIN_STEPS = 20


class Case:
    """One size on one device, with batches that are already there."""

    def __init__(self, architecture: Architecture, batch: int, runs: int, device: torch.device) -> None:
        self.architecture, self.batch, self.runs, self.device = architecture, batch, runs, device
        self.optimisation = Optimisation(
            steps=100_000, batch_size=batch, learning_rate=3e-4, warmup_steps=1000, weight_decay=0.01, clip=1.0
        )
        shape = (3, runs, batch, architecture.sequence_length + 1)
        self.tokens = torch.randint(architecture.vocabulary, shape).to(device)
        self.mechanism = library.load(library.standard("matrix_mixer"))

    def trainer(self, seed: int) -> Trainer:
        """Return a run in bfloat16."""
        execution = Execution(device=self.device.type, precision="bfloat16", checkpoint_every=1)  # type: ignore[arg-type]
        model = Transformer(self.architecture, self.mechanism, seed).to(self.device)
        return Trainer(model, self.optimisation, execution, seed)

    def drain(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def minutes(self, step: Step, tokens: torch.Tensor, steps: int) -> float:
        """Return the minutes that 100,000 steps would take."""
        for number in range(3):
            step(number, tokens[number % 3])
        self.drain()
        began = time.perf_counter()
        for number in range(steps):
            step(number, tokens[number % 3])
        self.drain()
        return (time.perf_counter() - began) / steps * 1e5 / 60

    def plain(self) -> float:
        """Return the plain loop's minutes."""
        model = PlainTransformer(self.architecture).to(self.device)
        model.positions = model.positions.to(self.device)

        def run(steps: int) -> None:
            batches = (self.tokens[step % 3, 0] for step in range(steps))
            train(model, self.optimisation, batches, partial(F.dropout, p=self.architecture.dropout))
            self.drain()

        run(3)
        began = time.perf_counter()
        run(PLAIN_STEPS)
        return (time.perf_counter() - began) / PLAIN_STEPS * 1e5 / 60

    def captured(self, steps: int) -> tuple[float, str]:
        """Return minutes and tier of the fastest way for one run."""
        stepper = capture(self.trainer(1), list(self.tokens[:, 0]))
        return self.minutes(stepper.step, self.tokens[:, 0], steps), stepper.tier

    def stacked(self, steps: int) -> tuple[float, str]:
        """Return minutes per run and tier of the fastest way for the stack."""
        stepper = capture(Stack([self.trainer(seed) for seed in range(self.runs)]), list(self.tokens))
        return self.minutes(stepper.step, self.tokens, steps) / self.runs, stepper.tier

    def row(self, name: str, steps: int) -> str:
        """Return one row of the table."""
        eager = self.minutes(self.trainer(1).step, self.tokens[:, 0], max(1, steps // 10))
        alone, tier = self.captured(steps)
        together, stacked_tier = self.stacked(max(1, steps // self.runs))
        plain = self.plain()
        terms = clock.step_terms(self.architecture, self.batch, clock.GPU)
        least = max(terms[0] * clock.GPU.share, terms[1]) * 1e5 / 60
        return (
            f"| {name} | {plain:.1f} | {eager:.1f} | {alone:.2f} ({tier}) | {together:.2f} ({stacked_tier}) | "
            f"{plain / alone:.1f} | {plain / together:.1f} | {least:.2f} | {least / alone:.0%} |"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a batch of 2 and a vocabulary of 64, for the rehearsal")
    arguments = parser.parse_args()
    config = load_config(yaml.safe_load((Path(__file__).parents[2] / "config/config.yaml").read_text()))
    sizes = {name: config.sizes[name] for name in config.scaling.sizes}
    batch, vocabulary = (2, 64) if arguments.tiny else (64, config.corpus.vocabulary)
    device = open_device(arguments.device, deterministic=False)
    what = torch.cuda.get_device_name() if device.type == "cuda" else "cpu, a rehearsal"
    print(f"{what}, torch {torch.__version__}; minutes per 100,000 steps; R = {arguments.runs}\n")
    print(
        "| size | plain | eager | captured | stacked, per run | plain / captured | plain / stacked | roofline | "
        "reached |\n|---|---|---|---|---|---|---|---|---|"
    )
    shells = {
        name: Architecture(
            width=size.width,
            layers=size.layers,
            heads=size.heads,
            vocabulary=vocabulary,
            sequence_length=config.corpus.sequence_length,
            dropout=config.training.dropout,
        )
        for name, size in sizes.items()
    }
    for name, shell in shells.items():
        print(Case(shell, batch, arguments.runs, device).row(name, arguments.steps), flush=True)
    first = next(iter(shells))
    free = Case(shells[first], batch, arguments.runs, device).captured(arguments.steps)[0]
    exact, tier = Case(shells[first], batch, arguments.runs, open_device(arguments.device, True)).captured(
        arguments.steps
    )
    print(f"\ndeterministic at {first}: {exact:.2f} minutes ({tier}) against {free:.2f}")


if __name__ == "__main__":
    main()
