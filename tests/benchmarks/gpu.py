"""The engine on a GPU, in one short command: python tests/benchmarks/gpu.py [--steps N] [--runs R] [--sizes A,B].

At the study's four sizes (batch 64, 128 tokens, vocabulary 16,384, bfloat16): minutes per 100,000 steps of the plain
loop (fp32, its wait per step and all), of eager steps, of captured and of compiled steps, and per run of R stacked
seeds, captured and compiled; of the curve's points on the held-out subset, one every 1,000 steps; then the share of the
roofline that the fastest way of a run alone and of stacked runs reaches: the plan's least arithmetic and traffic of a
step, at the rates of a large copy and product measured here.
Last, what determinism costs at the first size. All graphs are compiled first, side by side, as the engine does it
(sandboxed, kept for later jobs). Wall time with the device drained before and after; a size takes seconds.
`--device cpu --tiny` is a rehearsal: the same code on a machine without a GPU, whose numbers mean nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from plain_loop import PlainTransformer, train
from torch.nn import functional as F

from evomix.config import load_config
from evomix.errors import UserError
from evomix.mechanisms import library
from evomix.model.transformer import Transformer
from evomix.plan import clock
from evomix.settings import Sandbox
from evomix.specs import Architecture, Execution, Optimisation
from evomix.training.compiled import GRAPH, compiled_tier, trace
from evomix.training.compiling import fetch_library
from evomix.training.device import open_device
from evomix.training.graph import capture, climb
from evomix.training.scoring import measure
from evomix.training.stack import Stack
from evomix.training.trainer import Trainer

Step = Callable[[int, torch.Tensor], object]
PLAIN_STEPS = 20
OPTIMISATION = Optimisation(
    steps=100_000, batch_size=64, learning_rate=3e-4, warmup_steps=1000, weight_decay=0.01, clip=1.0
)


@dataclass(frozen=True)
class Case:
    """One size on one device."""

    name: str
    architecture: Architecture
    batch: int
    device: str
    deterministic: bool = False

    @property
    def execution(self) -> Execution:
        """How its steps are carried out."""
        return Execution.model_validate(
            {
                "device": self.device,
                "precision": "bfloat16" if self.device == "cuda" else "float32",
                "checkpoint_every": 1,
                "deterministic": self.deterministic,
            }
        )

    def trainer(self, seed: int) -> Trainer:
        """Return a run."""
        mechanism = library.load(library.standard("matrix_mixer"))
        model = Transformer(self.architecture, mechanism, seed).to(self.device)
        return Trainer(model, OPTIMISATION, self.execution, seed)

    def stack(self, runs: int) -> Stack:
        """Return stacked runs."""
        return Stack([self.trainer(seed) for seed in range(runs)])

    def tokens(self, runs: int) -> torch.Tensor:
        """Return three batches that are already on the device."""
        shape = (3, runs, self.batch, self.architecture.sequence_length + 1)
        return torch.randint(self.architecture.vocabulary, shape).to(self.device)

    def minutes(self, step: Step, tokens: torch.Tensor, steps: int) -> float:
        """Return the minutes that 100,000 steps would take."""
        for number in range(3):
            step(number, tokens[number % 3])
        drain(self.device)
        began = time.perf_counter()
        for number in range(steps):
            step(number, tokens[number % 3])
        drain(self.device)
        return (time.perf_counter() - began) / steps * 1e5 / 60

    def plain(self) -> float:
        """Return the plain loop's minutes."""
        model = PlainTransformer(self.architecture).to(self.device)
        model.positions = model.positions.to(self.device)
        tokens = self.tokens(1)[:, 0]

        def run(steps: int) -> None:
            batches = (tokens[step % 3] for step in range(steps))
            train(model, OPTIMISATION, batches, partial(F.dropout, p=self.architecture.dropout))
            drain(self.device)

        run(3)
        began = time.perf_counter()
        run(PLAIN_STEPS)
        return (time.perf_counter() - began) / PLAIN_STEPS * 1e5 / 60

    def captured(self, steps: int) -> tuple[float, str]:
        """Return minutes and tier of captured steps of one run."""
        tokens = self.tokens(1)[:, 0]
        stepper = capture(self.trainer(1), list(tokens))
        return self.minutes(stepper.step, tokens, steps), stepper.tier

    def stacked(self, runs: int, steps: int, compiled: Path | None = None) -> tuple[float, str]:
        """Return minutes per run and tier of stacked steps, by a compiled library where there is one."""
        tokens, stack = self.tokens(runs), self.stack(runs)
        if compiled is None:
            stepper = capture(stack, list(tokens))
        else:
            stepper = climb([compiled_tier(stack, compiled, tokens[0])], stack, list(tokens))
        return self.minutes(stepper.step, tokens, steps) / runs, stepper.tier

    def points(self, subset: int) -> float:
        """Return the minutes that measuring the curve's points takes, one every 1,000 steps."""
        model = self.trainer(1).model
        rows: Any = Rows(self.tokens(1)[0, 0].cpu().numpy())
        measure(model, rows, np.arange(subset), self.execution.precision)  # warms up
        began = time.perf_counter()
        measure(model, rows, np.arange(subset), self.execution.precision)
        return (time.perf_counter() - began) * 100 / 60

    def least(self, device: clock.Machine) -> float:
        """Return the minutes below which no 100,000 steps are possible."""
        arithmetic, traffic, _ = clock.step_terms(self.architecture, self.batch, device)
        return max(arithmetic * device.share, traffic) * 1e5 / 60

    def row(self, runs: int, steps: int, subset: int, libraries: dict[int, Path | None], device: clock.Machine) -> str:
        """Return one row of the table."""
        few = max(1, steps // runs)
        eager = self.minutes(self.trainer(1).step, self.tokens(1)[:, 0], max(1, steps // 10))
        alone, together = [self.captured(steps)], [self.stacked(runs, few)]
        for count, ways, number in ((1, alone, steps), (runs, together, few)):
            if (place := libraries.get(count)) is not None:
                ways.append(self.stacked(count, number, place))
        plain, least = self.plain(), self.least(device)
        fastest = [min(minutes for minutes, _ in ways) for ways in (alone, together)]
        told = [", ".join(f"{minutes:.2f} ({tier})" for minutes, tier in ways) for ways in (alone, together)]
        return (
            f"| {self.name} | {plain:.1f} | {eager:.1f} | {' | '.join(told)} | {self.points(subset):.2f} | "
            f"{plain / fastest[0]:.1f} | {plain / fastest[1]:.1f} | "
            f"{least:.2f} | {least / fastest[0]:.0%}, {least / fastest[1]:.0%} |"
        )


@dataclass(frozen=True)
class Rows:
    """A held-out shard that repeats one batch."""

    batch: npt.NDArray[np.int64]

    def read(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return as many rows as are asked for."""
        return self.batch[indices % len(self.batch)]


def drain(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def compile_case(case: Case, runs: int, place: Path) -> Path | None:
    """Trace and compile the step of stacked runs into `place`; None, and a line that says why, where it fails."""
    open_device(case.device, case.deterministic)
    place.mkdir()
    try:
        trace(case.stack(runs), case.tokens(runs)[0], place)
        text = (place / GRAPH).read_text(encoding="utf-8")
        fetch_library(text, shutil.which("g++") or "", Sandbox(memory_gb=32), case.execution, place)
    except (UserError, RuntimeError) as error:
        print(f"{case.name}, {runs} runs: not compiled ({error})")
        return None
    return place


def rates(device: str) -> clock.Machine:
    """Return the plan's GPU with the rates of a large product (bfloat16) and a large copy on this device."""
    if device == "cpu":
        return clock.GPU
    matrix = torch.randn(8192, 8192, dtype=torch.bfloat16, device=device)
    memory = torch.randn(2**29, device=device)
    best = []
    for work in (lambda: matrix @ matrix, memory.clone):
        times = []
        for _ in range(8):
            began = time.perf_counter()
            work()
            drain(device)
            times.append(time.perf_counter() - began)
        best.append(min(times))
    return replace(clock.GPU, flops=2 * 8192**3 / best[0], bandwidth=2 * 4 * 2**29 / best[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", default="", help="names of sizes, all of the scaling law where nothing is said")
    parser.add_argument("--compiled", help="numbers of stacked runs whose steps are compiled, 1 and R if not said")
    parser.add_argument("--tiny", action="store_true", help="the rehearsal: batch 2, vocabulary 64, 4 held-out rows")
    arguments = parser.parse_args()
    config = load_config(yaml.safe_load((Path(__file__).parents[2] / "config/config.yaml").read_text()))
    names = arguments.sizes.split(",") if arguments.sizes else config.scaling.sizes
    batch, vocabulary = (2, 64) if arguments.tiny else (64, config.corpus.vocabulary)
    subset = 4 if arguments.tiny else config.training.evaluation_rows
    cases = [
        Case(
            name,
            Architecture(
                width=config.sizes[name].width,
                layers=config.sizes[name].layers,
                heads=config.sizes[name].heads,
                vocabulary=vocabulary,
                sequence_length=config.corpus.sequence_length,
                dropout=config.training.dropout,
            ),
            batch,
            arguments.device,
        )
        for name in names
    ]
    said = f"1,{arguments.runs}" if arguments.compiled is None else arguments.compiled
    counts = [int(count) for count in said.split(",") if count]
    with tempfile.TemporaryDirectory() as workshop:
        wanted = [(case, runs, Path(workshop) / f"{case.name}_{runs}") for case in cases for runs in counts]
        with multiprocessing.get_context("spawn").Pool(min(8, max(1, len(wanted)))) as pool:
            places = pool.starmap(compile_case, wanted, chunksize=1)
        made = {(case.name, runs): place for (case, runs, _), place in zip(wanted, places, strict=True)}
        open_device(arguments.device, deterministic=False)
        device = rates(arguments.device)
        what = torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu, a rehearsal"
        print(f"{what}, torch {torch.__version__}; minutes per 100,000 steps; R = {arguments.runs}")
        print(f"{device.roofline}\n")
        columns = ["size", "plain", "eager", "alone", "stacked, per run", "points of the curve"]
        columns += ["plain / alone", "plain / stacked", "roofline", "reached"]
        print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
        for case in cases:
            libraries = {runs: made.get((case.name, runs)) for runs in (1, arguments.runs)}
            print(case.row(arguments.runs, arguments.steps, subset, libraries, device), flush=True)
    free = cases[0].captured(arguments.steps)[0]
    open_device(arguments.device, deterministic=True)
    exact, tier = replace(cases[0], deterministic=True).captured(arguments.steps)
    print(f"\ndeterministic at {cases[0].name}: {exact:.2f} minutes ({tier}) against {free:.2f}")


if __name__ == "__main__":
    main()
