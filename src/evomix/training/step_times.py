"""How long a step of R runs takes alone, stacked and compiled, by measured step times; which way is chosen by them.

Measured while it runs, a time would make results depend on how busy the machine was, since the ways round differently.
So steps were measured once on a reference machine (`step_times_measured`), and three rates fitted to each way:

    seconds = operations · a + runs · (elements · b + FLOPs · c)          (alone: R times that of one run)

Operations and elements are counted on the run's own first batch, FLOPs are as stated. Equal specs therefore choose
alike on any machine, and timing.json has what a step was expected to take beside what it took. To decide by another
machine: `python tests/benchmarks/step_times.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Way = Literal["alone", "stacked", "compiled"]

MARGINS: dict[Way, float] = {"alone": 1.0, "stacked": 1.2, "compiled": 1.3}
"""By how much the expected time of a way must be less than that of simpler ones: all expected gains of stacking are
within 1.2 of those measured, and those of compiling, from six rows, within 1.3."""


@dataclass(frozen=True)
class Work:
    """What one forward and backward pass of one run asks of a machine."""

    operations: int
    """Operations as they reach the backend, views among them."""
    elements: int
    """Numbers that they write."""
    flops: float
    """Three forward passes, as `model.flops` states them."""


@dataclass(frozen=True)
class Rates:
    """Seconds of a step: for an operation however many runs share it, for an element and a FLOP of each run."""

    operation: float
    element: float
    flop: float

    def seconds(self, work: Work, runs: int) -> float:
        """Return the seconds of one step of `runs` runs that share their operations."""
        return self.operation * work.operations + runs * (self.element * work.elements + self.flop * work.flops)


@dataclass(frozen=True)
class Machine:
    """What a kind of device was measured to take; `compiling` is CPU seconds for each operation of a step."""

    source: str
    alone: Rates
    stacked: Rates
    compiled: Rates | None = None
    compiling: float = 0.0

    def seconds(self, work: Work, runs: int) -> dict[Way, float]:
        """Return the expected seconds of one step of all runs by each way."""
        expected: dict[Way, float] = {
            "alone": runs * self.alone.seconds(work, 1),
            "stacked": self.stacked.seconds(work, runs),
        }
        return expected if self.compiled is None else {**expected, "compiled": self.compiled.seconds(work, runs)}


@dataclass(frozen=True)
class Choice:
    """How runs are carried out, and the sentence that says why."""

    way: Way
    sentence: str


def choose(machine: Machine, work: Work, runs: int, steps: int, *, compilable: bool) -> Choice:
    """Return the way that is expected to be fastest over all steps, compiling included where it is `compilable`.

    A simpler way wins unless another is faster by its margin. Libraries kept by earlier jobs do not count.
    """
    expected = machine.seconds(work, runs)
    cost = machine.compiling * work.operations
    totals: dict[Way, float] = {"alone": steps * expected["alone"], "stacked": steps * expected["stacked"]}
    if compilable and machine.compiled is not None:
        totals["compiled"] = cost + steps * expected["compiled"]
    best: Way = "alone"
    for way, seconds in totals.items():
        if MARGINS[way] * seconds < totals[best]:
            best = way
    told = ", ".join(
        f"{1e3 * expected[way] / runs:.3g} ms {way}" + (f" after {cost:.0f} s" if way == "compiled" else "")
        for way in totals
    )
    return Choice(best, f"{runs} runs of {steps} steps, a step and run expected to take {told} ({machine.source})")
