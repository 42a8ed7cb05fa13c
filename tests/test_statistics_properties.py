"""What holds for any losses, diverged runs, ties and two seeds among them: order, shift and roles decide nothing."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evomix.artifacts import canonical_json
from evomix.statistics import comparison, scaling_law

Losses = npt.NDArray[np.float64]
loss = st.one_of(st.integers(80, 100).map(lambda k: k / 64), st.just(float("nan")))
tables = st.tuples(st.integers(2, 5), st.integers(2, 4)).flatmap(lambda shape: arrays(float, shape, elements=loss))
NAMES = "abcd"


def compared(loss_SV: Losses, names: str = NAMES) -> dict[str, Any]:
    seeds, variants = loss_SV.shape
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = comparison.analyse(loss_SV, list(names[:variants]), list(range(seeds)), 0.05, None)
    canonical_json(found)
    return found


def fitted(standard_SK: Losses, evolved_SK: Losses) -> dict[str, Any]:
    seeds, sizes = standard_SK.shape
    n = 1e5 * 2.0 ** np.arange(sizes)
    both = {"standard": standard_SK, "evolved": evolved_SK}
    grid = scaling_law.Grid(list(NAMES[:sizes]), list(range(seeds)), dict.fromkeys(both, n), both, both)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = scaling_law.analyse(grid, "matrix_mixer", 0.05, resamples=0)
    canonical_json(found)
    return found


@given(tables, st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_order_of_seeds_and_a_shift_do_not_matter_across_frameworks(loss_SV: Losses, seed: int) -> None:
    here = compared(loss_SV)
    there = compared(np.random.default_rng(seed).permutation(loss_SV) + 0.25)
    for kind in ("anova", "friedman"):
        assert (here[kind] is None) == (there[kind] is None)
        if here[kind] is not None:
            assert here[kind]["p"] == pytest.approx(there[kind]["p"], rel=1e-6, abs=1e-12)
    for mine, theirs in zip(here["contrasts"], there["contrasts"], strict=True):
        assert mine["p"] == pytest.approx(theirs["p"], rel=1e-6, abs=1e-12, nan_ok=True)
        assert mine["holm_p"] == pytest.approx(theirs["holm_p"], rel=1e-6, abs=1e-12, nan_ok=True)


@given(tables)
@settings(max_examples=25, deadline=None)
def test_exchanged_frameworks_flip_the_contrast(loss_SV: Losses) -> None:
    here, there = compared(loss_SV[:, :2]), compared(loss_SV[:, 1::-1], "ba")
    for mine, theirs in zip(here["contrasts"], there["contrasts"], strict=True):
        assert mine["mean"] == pytest.approx(-theirs["mean"], nan_ok=True)
        assert mine["p"] == pytest.approx(theirs["p"], nan_ok=True)
        assert mine["lower"] == theirs["lower"], "which one is lower does not depend on who is named first"


@given(tables, tables)
@settings(max_examples=10, deadline=None)
def test_exchanged_arms_flip_the_scaling_law(first: Losses, second: Losses) -> None:
    seeds, sizes = np.minimum(first.shape, second.shape)
    standard, evolved = first[:seeds, :sizes], second[:seeds, :sizes]
    here, there = fitted(standard, evolved), fitted(evolved, standard)
    assert here["complete_seeds"] == there["complete_seeds"]
    for mine, theirs in zip(here["sizes"], there["sizes"], strict=True):
        assert mine["difference"]["mean"] == pytest.approx(-theirs["difference"]["mean"], nan_ok=True)
        assert not (mine["better"] and theirs["better"])
    for mine, theirs in zip(here["reference"], there["reference"], strict=True):
        assert mine["difference"]["mean"] == pytest.approx(-theirs["difference"]["mean"], abs=1e-9)
