"""Step times of runs alone, stacked and compiled: python tests/benchmarks/step_times.py [--pairs N] [--rows K ...].

The rows that `evomix.training.step_times` decides by: every member of the gallery and a loop over time at a tiny size,
the standard at growing sizes up to full width, a few of them compiled. Prints each as a line of its table, then the
rates that fit them; put both there to decide by another machine. CPU seconds of one thread; the least of interleaved
pairs, since a neighbour can only add. Libraries are not taken from the user's cache.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from paired import cpu_seconds, machine
from step_rates import fit

from evomix.mechanisms import library
from evomix.mechanisms.contract import Mechanism
from evomix.model.transformer import Transformer
from evomix.settings import Sandbox
from evomix.specs import Architecture, Execution, Optimisation
from evomix.training import compiling
from evomix.training.compiled import GRAPH, Compiled, trace
from evomix.training.device import keep_memory
from evomix.training.stack import Stack
from evomix.training.step_times import Work
from evomix.training.step_times_measured import Measured
from evomix.training.trainer import Trainer

STANDARD = library.load(library.standard("matrix_mixer"))


class Loop(STANDARD):  # type: ignore[misc, valid-type]
    """Softmax attention as a python loop over time: one query after another."""

    def forward(self, x_BTD: torch.Tensor, v_BHTP: torch.Tensor) -> torch.Tensor:
        q, k = self.split_heads(self.query(x_BTD)), self.split_heads(self.key(x_BTD))
        rows = []
        for t in range(x_BTD.shape[-2]):
            score = (k[..., : t + 1, :] * q[..., t : t + 1, :]).sum(-1) / q.shape[-1] ** 0.5
            rows.append((torch.softmax(score, -1).unsqueeze(-1) * v_BHTP[..., : t + 1, :]).sum(-2))
        return torch.stack(rows, -2)


EXECUTION = Execution(device="cpu", precision="float32", checkpoint_every=1)


@dataclass(frozen=True)
class Case:
    """One row: R runs of a mechanism at a size."""

    name: str
    mechanism: type[Mechanism]
    runs: int = 10
    width: int = 16
    layers: int = 2
    tokens: int = 16
    vocabulary: int = 64
    batch: int = 16
    compiled: bool = False

    def trainers(self) -> list[Trainer]:
        """Return the runs, with different seeds."""
        shape = {"width": self.width, "layers": self.layers, "heads": max(2, self.width // 32), "dropout": 0.1}
        architecture = Architecture.model_validate(
            {**shape, "vocabulary": self.vocabulary, "sequence_length": self.tokens}
        )
        optimisation = Optimisation(
            steps=1000, batch_size=self.batch, learning_rate=1e-3, warmup_steps=10, weight_decay=0.01, clip=1.0
        )
        models = [Transformer(architecture, self.mechanism, seed) for seed in range(self.runs)]
        return [Trainer(model, optimisation, EXECUTION, seed) for seed, model in enumerate(models)]


def cases() -> Iterator[Case]:
    """Yield all rows."""
    gallery = {
        f"{framework} {member}": library.load(path)
        for framework in library.FRAMEWORKS
        for member, path in library.gallery(framework).items()
    }
    compiled = {"matrix_mixer softmax", "coefficient_dynamics gla", "matrix_mixer ssd"}
    for name, mechanism in gallery.items():
        yield Case(name, mechanism, compiled=name in compiled)
    yield Case("loop over time", Loop, compiled=True)
    for runs in (4, 20):
        yield Case("softmax", STANDARD, runs, compiled=runs == 4)
        yield Case("loop over time", Loop, runs)
    for width, tokens, vocabulary in ((32, 32, 256), (32, 64, 512), (64, 64, 512), (64, 128, 2048)):
        yield Case("softmax", STANDARD, 10, width, 2, tokens, vocabulary, compiled=tokens in (32, 64))
    for width, layers in ((96, 2), (128, 2), (192, 1)):
        yield Case("softmax", STANDARD, 4, width, layers, 128, 16_384, 64)


def whole_cpu_seconds() -> float:
    """Return CPU seconds of this process and of the compilers that it started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def compiled_stack(case: Case, tokens: torch.Tensor, place: Path) -> tuple[Compiled, float]:
    """Return the compiled stack of a case by the engine's own way, and what tracing and compiling cost."""
    began = whole_cpu_seconds()
    trace(Stack(case.trainers()), tokens, place)
    compiling.fetch_library((place / GRAPH).read_text(), shutil.which("g++") or "", Sandbox(), EXECUTION, place)
    return Compiled(Stack(case.trainers()), place), whole_cpu_seconds() - began


def measure(case: Case, pairs: int, place: Path, *, eager: bool) -> Measured | None:
    """Return the row of a case, None when its runs cannot be stacked."""
    alone = case.trainers()
    tokens = torch.randint(case.vocabulary, (case.runs, case.batch, case.tokens + 1))
    work = alone[0].work(tokens[0])
    ways = [lambda: [trainer.step(0, tokens[run]) for run, trainer in enumerate(alone)]]
    cost = None
    try:
        ways.append(partial(Stack(case.trainers()).step, 0, tokens))
        ways[1]()
    except Exception as error:
        print(f"# {case.name} cannot be stacked: {type(error).__name__}")
        return None
    if case.compiled and not eager:
        compiled, cost = compiled_stack(case, tokens, place)
        ways.append(partial(compiled.step, 0, tokens))
    for way in ways:
        way()
    times = [min(column) for column in zip(*([cpu_seconds(way) for way in ways] for _ in range(pairs)), strict=True)]
    name = f"{case.name}, d{case.width} L{case.layers} T{case.tokens} V{case.vocabulary} B{case.batch}"
    told = [float(f"{1e3 * seconds:.3g}") for seconds in times]
    work = Work(work.operations, work.elements, float(f"{work.flops:.3g}"))
    return (
        Measured(name, case.runs, work, *told) if cost is None else Measured(name, case.runs, work, *told, round(cost))
    )


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--rows", type=int, nargs="*")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    print(f"# {machine()}; least of {arguments.pairs} interleaved pairs", flush=True)
    rows = []
    for index, case in enumerate(cases()):
        if not arguments.rows or index in arguments.rows:
            with tempfile.TemporaryDirectory() as place:
                os.environ["XDG_CACHE_HOME"] = place
                row = measure(case, arguments.pairs, Path(place), eager=arguments.eager)
            print(f"{row},", flush=True)
            rows += [] if row is None else [row]
    print(fit(rows, machine()) if any(row.compiled for row in rows) else "# no rates without compiled rows")


if __name__ == "__main__":
    main()
