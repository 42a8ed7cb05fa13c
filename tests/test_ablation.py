"""Ablation: what evolved splits into edits that stand alone."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablation_study import INERT, KEY, LOUD, MANY, MIXER, QUERY, SHARP, change, edited, split_files, standard
from evomix.ablation.edits import Difference
from evomix.artifacts import read_json
from evomix.evolution.identity import normalised
from evomix.gate import syntax
from evomix.gate.gate import gate
from evomix.mechanisms import library
from evomix.settings import FRAMEWORKS, Framework


def plain(source: str) -> str:
    """Return a program without what computes nothing: comments, docstrings, `flops`, annotations."""
    tree = ast.parse(source[source.index("# EVOLVE-BLOCK-START") : source.index("# EVOLVE-BLOCK-END")])
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return normalised(ast.unparse(tree))


def titles(reference: str, candidate: str, framework: Framework = MIXER, most: int = MANY) -> list[str]:
    difference = Difference(reference, candidate, framework, most)
    return [difference.title(edit) for edit in range(len(difference.edits))]


@given(framework=st.sampled_from(FRAMEWORKS), seed=st.integers(0, 2**20), count=st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_edits_add_up_and_each_stands_alone(framework: Framework, seed: int, count: int) -> None:
    """All edits taken give the candidate, none the reference; one left out or alone passes the gate's syntax."""
    reference, candidate = standard(framework), edited(framework, seed, count)
    difference = Difference(reference, candidate, framework, MANY)
    every = set(range(len(difference.edits)))
    assert plain(difference.source(every, "new")) == plain(candidate)
    assert plain(difference.source((), "old")) == plain(reference)
    for edit in every:
        for taken in (every - {edit}, {edit}):
            assert syntax.check(difference.source(taken), framework) == []
    assert sorted(number for edit in difference.edits for number in edit) == list(range(len(difference.hunks)))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_members_of_the_gallery_split_as_well(framework: Framework) -> None:
    """`validation.candidate` may name one: its parts stand alone or are one edit, and the gate can read each file."""
    for path in library.gallery(framework).values():
        difference = Difference(standard(framework), path.read_text(encoding="utf-8"), framework, MANY)
        every = set(range(len(difference.edits)))
        assert bool(every) == (path.stem != "softmax")
        for edit in every:
            assert all(syntax.check(difference.source(taken), framework) == [] for taken in (every - {edit}, {edit}))


def test_independent_edits_are_apart_and_dependent_ones_together() -> None:
    gate_and_use = (
        ("self.key = nn.Linear(width, width, bias=False)", "self.key = nn.Linear(width, width, bias=False)\n"
         "        self.scale = nn.Parameter(torch.ones(heads, 1, 1))\n        self.unused = nn.Linear(width, width)"),
        (KEY, f"{KEY} * self.scale"),
    )  # fmt: skip
    found = titles(standard(MIXER), change(standard(MIXER), *gate_and_use, SHARP, LOUD))
    assert found == [
        "adds self.scale; changes key in generators",
        "adds self.unused",
        "changes query in generators",
        "changes matrix",
    ]


def test_an_argument_and_what_is_passed_are_one_edit() -> None:
    candidate = change(
        standard(MIXER),
        ("return query, key", "return query, key, key.mean(-1)"),
        ("query_BHTN: Tensor, key_BHTN: Tensor", "q: Tensor, k: Tensor, bias: Tensor"),
        ("query_BHTN @ key_BHTN.mT", "q @ k.mT + bias.unsqueeze(-2)"),
        SHARP,
    )
    assert titles(standard(MIXER), candidate) == [
        "changes query in generators",
        "changes generators, matrix",
    ]


def test_a_renamed_variable_is_one_edit_that_changes_nothing() -> None:
    candidate = change(standard(MIXER), (KEY, KEY.replace("key =", "k =")), ("return query, key", "return query, k"))
    assert len(titles(standard(MIXER), candidate)) == 1


def test_the_limit_merges_neighbours_and_drops_none() -> None:
    candidate = change(standard(MIXER), INERT, SHARP, LOUD)
    assert len(titles(standard(MIXER), candidate)) == 3
    found = Difference(standard(MIXER), candidate, MIXER, 2)
    assert sorted(map(len, found.edits)) == [1, 2]
    assert plain(found.source({0, 1})) == plain(candidate)


def test_what_computes_nothing_is_no_edit() -> None:
    """Comments, formatting, annotations, stated costs and mere claims of the declaration."""
    candidate = change(
        standard(MIXER),
        ("row_stochastic=True", "row_stochastic=False"),
        ("projections = 4 *", "projections = 5 *"),
        (QUERY, f"{QUERY}  # the queries"),
        ("def generators(self, x_BTD: Tensor) -> tuple[Tensor, ...]:", "def generators(self, x_BTD):"),
    )
    found = Difference(standard(MIXER), candidate, MIXER, MANY)
    assert found.edits == []
    assert found.claims_differ


def test_an_estimator_that_is_executed_is_an_edit() -> None:
    framework: Framework = "test_time_regression"
    candidate = change(
        standard(framework),
        ('estimator="local_constant"', 'estimator="ridge"'),
        (
            "    def flops",
            "    def penalty(self, x_BTD: Tensor) -> Tensor:\n        return torch.ones(1)\n\n    def flops",
        ),
        ("bandwidth = math.sqrt(self.head_width)", "bandwidth = 2.0"),
    )
    assert titles(standard(framework), candidate, framework) == [
        "changes bandwidth in log_kernel",
        "adds penalty; changes estimator",
    ]


def test_keywords_in_another_order_are_the_same_program(tmp_path: Path) -> None:
    reference = change(standard(MIXER), ("torch.softmax(logits, -1)", "torch.softmax(input=logits, dim=-1)"))
    candidate = change(reference, ("input=logits, dim=-1", "dim=-1, input=logits"), SHARP)
    found = split_files(tmp_path, reference, candidate)["edits"]
    assert [edit["reverted"]["status"] for edit in found] == ["separate", "same_program"]
    assert [edit["added"]["status"] for edit in found] == ["separate", "same_program"]
    assert not (tmp_path / "variants/without_2.py").exists()


def test_the_real_gate_refuses_what_cannot_be_separated(tmp_path: Path) -> None:
    """Without the mask the future leaks; the edit that masks by hand cannot be taken back alone."""
    candidate = change(
        standard(MIXER),
        ("forbid_future(query_BHTN @ key_BHTN.mT)", "query_BHTN @ key_BHTN.mT"),
        ("return torch.softmax(logits, -1)", "return torch.softmax(forbid_future(logits), -1)"),
    )

    def real(path: Path) -> dict[str, Any]:
        return gate(path, MIXER) if path.stem == "without_2" else {"accepted": True, "checks": []}

    found = split_files(tmp_path, standard(MIXER), candidate, add_alone=False, gate=real)
    first, second = (edit["reverted"] for edit in found["edits"])
    assert first["status"] == "separate"
    assert second["status"] == "refused"
    assert second["reason"].startswith("not separable: ")
    assert "caus" in second["reason"]
    record = read_json(tmp_path / "variants/without_2.gate.json", "gate")
    assert not record["accepted"]


def test_a_single_edit_taken_back_is_the_reference_and_needs_no_gate(tmp_path: Path) -> None:
    def never(path: Path) -> dict[str, Any]:
        raise AssertionError(path)

    candidate = change(standard(MIXER), ("row_stochastic=True", "row_stochastic=False"), LOUD)
    (edit,) = split_files(tmp_path, standard(MIXER), candidate, gate=never)["edits"]
    assert edit["reverted"]["status"] == edit["added"]["status"] == "separate"
    assert plain((tmp_path / "variants/without_1.py").read_text()) == plain(standard(MIXER))
    assert plain((tmp_path / "variants/only_1.py").read_text()) == plain(candidate)


def test_claims_and_fast_forms_follow_the_program(tmp_path: Path) -> None:
    """A claim that holds with all edits only, or a fast form of all of them, does not make an edit inseparable."""
    fast = "def multiply(self, generators, v_BHTP):\n        return self.assemble(generators) @ v_BHTP\n\n    def flops"
    claim = ("row_stochastic=True", "row_stochastic=False")
    candidate = change(standard(MIXER), claim, LOUD, SHARP, ("def flops", fast))
    seen = []

    def picky(path: Path) -> dict[str, Any]:
        source = path.read_text()
        seen.append(source)
        accepted = "row_stochastic=True" in source and "def multiply" not in source
        check = {"check": "certificate", "passed": accepted, "hint": "no", "value": 1}
        return {"accepted": accepted, "checks": [check]}

    found = split_files(tmp_path, standard(MIXER), candidate, add_alone=False, gate=picky)
    assert [edit["reverted"]["status"] for edit in found["edits"]] == ["separate"] * 3
    assert any("def multiply" in source and "row_stochastic=False" in source for source in seen)
