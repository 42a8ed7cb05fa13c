"""How runs are carried out follows from measured step times: what was measured is met, at every edge, and said."""

from __future__ import annotations

import statistics

import pytest

from benchmarks.step_rates import fit
from evomix.training.step_times import MARGINS, Machine, Work, choose
from evomix.training.step_times_measured import GPU_ROWS, MACHINES, ROWS, Measured

CPU, GPU = MACHINES["cpu"], MACHINES["cuda"]
TINY = Work(425, 929_290, 1.29e7)
FULL_WIDTH = [row.work for row in ROWS if "B64" in row.name]


def way(work: Work, runs: int, steps: int, machine: Machine = CPU, *, compilable: bool = True) -> str:
    return choose(machine, work, runs, steps, compilable=compilable).way


def test_the_rates_are_those_that_fit_the_measured_rows() -> None:
    assert fit(ROWS, CPU.source) == CPU


def test_expected_gains_are_those_measured_within_the_margins() -> None:
    stacking, compiling = [], []
    for row in ROWS:
        expected = CPU.seconds(row.work, row.runs)
        stacking.append(expected["alone"] / expected["stacked"] / (row.alone / row.stacked))
        if row.compiled is not None:
            simpler = min(expected["alone"], expected["stacked"])
            compiling.append(simpler / expected["compiled"] / (min(row.alone, row.stacked) / row.compiled))
    assert max(*stacking, *(1 / each for each in stacking)) < MARGINS["stacked"]
    assert max(*compiling, *(1 / each for each in compiling)) < MARGINS["compiled"]
    assert statistics.median(stacking) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name} R{row.runs}")
def test_the_choice_is_the_one_that_the_measured_times_call_for(row: Measured) -> None:
    """Where stacking was measured to gain a third, it is done; whatever is done costs less than a third too much."""
    chosen = way(row.work, row.runs, 2_000, compilable=False)
    gain = row.alone / row.stacked
    assert chosen == "stacked" if gain > 4 / 3 else gain > 1.05 or chosen == "alone"
    for steps in (500, 2_000, 5_000, 10_000, 30_000, 100_000):
        totals = {"alone": steps * row.alone, "stacked": steps * row.stacked}
        if row.compiled is not None and row.compiling is not None:
            totals["compiled"] = 1e3 * row.compiling + steps * row.compiled
        chosen = way(row.work, row.runs, steps, compilable="compiled" in totals)
        assert totals[chosen] < 4 / 3 * min(totals.values())


def test_a_left_out_mechanism_is_foretold_by_the_others() -> None:
    for left_out in ("gla", "loop over time", "local_linear", "d32"):
        others = fit([row for row in ROWS if left_out not in row.name], "others")
        for row in (row for row in ROWS if left_out in row.name):
            expected = others.seconds(row.work, row.runs)
            assert expected["alone"] / expected["stacked"] == pytest.approx(row.alone / row.stacked, rel=0.35), row.name


@pytest.mark.parametrize("work", FULL_WIDTH)
def test_at_full_width_a_cpu_trains_one_run_after_another(work: Work) -> None:
    assert {way(work, runs, steps) for runs in (4, 10, 40) for steps in (100, 100_000)} == {"alone"}


def test_compiling_is_chosen_from_the_step_on_that_repays_it() -> None:
    for runs in (4, 10, 20):
        expected = CPU.seconds(TINY, runs)
        cost = CPU.compiling * TINY.operations
        repaid = MARGINS["compiled"] * cost / (expected["stacked"] - MARGINS["compiled"] * expected["compiled"])
        assert 1_000 < repaid < 20_000
        assert way(TINY, runs, int(repaid)) == "stacked"
        assert way(TINY, runs, int(repaid) + 1) == "compiled"
        assert way(TINY, runs, int(repaid) + 1, compilable=False) == "stacked"


def test_stacking_is_chosen_from_the_gain_on_that_the_margin_asks_for() -> None:
    """More elements per operation, then fewer runs, until the gain is too small."""
    ways = []
    for elements in range(500_000, 20_000_000, 500_000):
        work = Work(425, elements, 1e7)
        expected = CPU.seconds(work, 10)
        ways.append(way(work, 10, 100, compilable=False))
        assert (ways[-1] == "stacked") == (expected["alone"] > MARGINS["stacked"] * expected["stacked"])
    assert ways == sorted(ways, reverse=True)
    assert set(ways) == {"stacked", "alone"}
    assert way(TINY, 1, 10**6, compilable=False) == "alone"


def test_what_was_measured_on_a_gpu_is_expected_of_one() -> None:
    for row in GPU_ROWS:
        expected = GPU.seconds(row.work, row.runs)
        assert 1e3 * expected["alone"] == pytest.approx(row.alone, rel=0.2)
        assert 1e3 * expected["stacked"] == pytest.approx(row.stacked, rel=0.2) or row.runs == 1
        assert row.compiled is None or 1e3 * expected["compiled"] == pytest.approx(row.compiled, rel=0.02)


def test_a_gpu_compiles_long_runs_alone_or_stacked_and_stacks_short_ones_of_launches() -> None:
    full = GPU_ROWS[0].work
    assert {way(full, runs, 100_000, GPU) for runs in (1, 4, 10)} == {"compiled"}
    assert [way(full, runs, 2_000, GPU) for runs in (1, 4, 10)] == ["alone", "stacked", "stacked"]
    assert [way(full, runs, 100_000, GPU, compilable=False) for runs in (1, 10)] == ["alone", "stacked"]
    assert way(TINY, 10, 1_000, GPU) == "stacked"


def test_the_sentence_tells_what_each_way_is_expected_to_take() -> None:
    choice = choose(CPU, TINY, 10, 20_000, compilable=True)
    expected = CPU.seconds(TINY, 10)
    assert choice.sentence == (
        f"10 runs of 20000 steps, a step and run expected to take {100 * expected['alone']:.3g} ms alone, "
        f"{100 * expected['stacked']:.3g} ms stacked, {100 * expected['compiled']:.3g} ms compiled after 34 s "
        "(step times measured on a core of an AMD EPYC)"
    )
