"""Properties of the gate over generated programs: honest ones pass, the same ones with one dishonest line do not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evomix.gate import syntax
from programs.build import Program
from programs.honest.grammar import honest
from test_gate import run_batch

SLOW = settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@given(honest())
@settings(max_examples=50, deadline=None, derandomize=True)
def test_generated_programs_pass_the_syntax_gate(item: Program) -> None:
    assert syntax.check(item.source, item.framework) == []
    text = syntax.normalise(item.source, item.framework)
    assert syntax.normalise(text) == text


@given(honest(), st.data())
@settings(max_examples=50, deadline=None, derandomize=True)
def test_no_damage_to_a_program_makes_the_syntax_gate_raise(item: Program, data: st.DataObject) -> None:
    """Cut a piece out, or put one in anywhere: the answer is a list, and what is accepted can be normalised."""
    start = data.draw(st.integers(0, len(item.source)))
    end = data.draw(st.integers(start, min(len(item.source), start + 40)))
    piece = data.draw(st.sampled_from(["", "(", "import os\n", "\0", "\t", '"""', "\\", "# EVOLVE-BLOCK-END\n", "é"]))
    source = item.source[:start] + piece + item.source[end:]
    if not syntax.check(source, item.framework):
        text = syntax.normalise(source, item.framework)
        assert syntax.check(text, item.framework) == []


@pytest.mark.slow
@given(st.lists(honest(), min_size=12, max_size=12, unique_by=lambda item: item.source))
@SLOW
def test_generated_honest_programs_are_accepted(items: list[Program]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = run_batch({str(number): item for number, item in enumerate(items)}, Path(folder))
    for number, item in enumerate(items):
        assert results[str(number)]["failed"] == [], item.source


@pytest.mark.slow
@given(st.lists(honest(cheat=True), min_size=12, max_size=12, unique_by=lambda item: item.source))
@SLOW
def test_generated_cheats_are_refused(items: list[Program]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = run_batch({str(number): item for number, item in enumerate(items)}, Path(folder))
    for number, item in enumerate(items):
        assert results[str(number)]["failed"], item.source
