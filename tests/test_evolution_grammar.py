"""Random edits: legal and certified programs, from softmax to every gallery member, composed over generations."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from evolution_study import FRAMEWORKS, standard
from evomix.errors import UserError
from evomix.evolution.grammar import coefficient_dynamics, matrix_mixer, test_time_regression
from evomix.evolution.grammar.crossover import cross
from evomix.evolution.grammar.editor import Program
from evomix.evolution.grammar.edits import drawer
from evomix.evolution.identity import identity
from evomix.evolution.scaffold import block, scaffold
from evomix.gate import syntax
from evomix.mechanisms import certificate, library
from evomix.mechanisms.contract import Mechanism, build_mechanism
from evomix.settings import Framework

RULES: dict[str, ModuleType] = {
    "coefficient_dynamics": coefficient_dynamics,
    "test_time_regression": test_time_regression,
    "matrix_mixer": matrix_mixer,
}
WIDTH, HEADS = 16, 2
ROOT = math.sqrt(WIDTH // HEADS)


def start(framework: Framework) -> str:
    return scaffold(standard(framework).read_text(encoding="utf-8"), framework)


def loaded(source: str, framework: Framework, folder: Path) -> type[Mechanism]:
    """Normalise, write and load a program that the syntax gate accepts."""
    assert syntax.check(source, framework) == []
    path = folder / f"{identity(source)[:12]}.py"
    path.write_text(syntax.normalise(source, framework), encoding="utf-8")
    return library.load(path, framework)


def walk(framework: Framework, number: int, depth: int) -> tuple[str, list[str]]:
    """Apply random edits one after another, each to the text of the one before."""
    edits = RULES[framework].edits()
    stream = np.random.Generator(np.random.Philox(key=number))
    weights = np.array([edit.weight for edit in edits])
    source, changes = start(framework), []
    for _ in range(depth):
        program = Program(source)
        change = edits[int(stream.choice(len(edits), p=weights / weights.sum()))].apply(program, drawer(stream))
        if change:
            program.note(change)
            source = program.source()
            changes.append(change)
    return source, changes


def scripted(*choices: str) -> Callable[[list[str]], str]:
    """Return a draw that gives these names in order; each must be on offer."""
    rest: Iterator[str] = iter(choices)

    def draw(names: list[str]) -> str:
        choice = next(rest)
        assert choice in names
        return choice

    return draw


Step = tuple[str, tuple[str, ...]]


def edited(framework: Framework, steps: list[Step]) -> str:
    """Return softmax after these edits, each of which must apply."""
    source, edits = start(framework), {edit.name: edit for edit in RULES[framework].edits()}
    for name, choices in steps:
        program = Program(source)
        assert edits[name].apply(program, scripted(*choices)) is not None
        source = program.source()
    return source


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(("count", "depth"), [(2, 4), pytest.param(100, 8, marks=pytest.mark.slow)])
def test_random_programs_are_legal_and_members(tmp_path: Path, framework: Framework, count: int, depth: int) -> None:
    """Programs after many random edits pass the syntax gate and the whole certificate: declarations follow edits."""
    refusals = []
    for number in range(1_000, 1_000 + count):
        source, changes = walk(framework, number, depth)
        mechanism = loaded(source, framework, tmp_path)
        result = certificate.certify(mechanism, width=WIDTH, heads=HEADS, seed=1)
        refusals += [(number, changes, result["refusals"][:1])] if not result["passed"] else []
    assert refusals == []


@pytest.mark.parametrize(
    "steps",
    [
        [("token shift", ("keys",)), ("class", ("sigmoid",))],
        [("Toeplitz", ("learned",)), ("decay", ("gated", "2.0"))],
        [("Toeplitz", ("learned",)), ("levels", ())],
    ],
    ids=["class after shift", "decay after filter", "levels after filter"],
)
def test_later_edits_keep_the_declaration_true(tmp_path: Path, steps: list[Step]) -> None:
    """Once keys see the token before, or a decay reads the data, no later edit may claim otherwise."""
    source = edited("matrix_mixer", steps)
    mechanism = loaded(source, "matrix_mixer", tmp_path)
    assert certificate.certify(mechanism, width=WIDTH, heads=HEADS, seed=1)["refusals"] == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_edit_kind_applies_and_stays_legal(framework: Framework) -> None:
    """Over long walks every kind of edit is used, and no program is ever outside the gate's syntax."""
    used: set[str] = set()
    edits = RULES[framework].edits()
    weights = np.array([edit.weight for edit in edits]) ** 0.5
    for number in range(50):
        stream = np.random.Generator(np.random.Philox(key=number))
        source = start(framework)
        for _ in range(8):
            program = Program(source)
            edit = edits[int(stream.choice(len(edits), p=weights / weights.sum()))]
            if edit.apply(program, drawer(stream)):
                used.add(edit.name)
                source = program.source()
        assert syntax.check(source, framework) == [], number
    assert used == {edit.name for edit in edits}


Copy = dict[str, Callable[[dict[str, torch.Tensor]], torch.Tensor]]


def same(name: str, factor: float = 1.0) -> Callable[[dict[str, torch.Tensor]], torch.Tensor]:
    return lambda member: member[name] * factor


POINTS: Copy = {"query.weight": same("query.weight", ROOT), "key.weight": same("key.weight")}
RAW: Copy = {"query.weight": same("query.weight"), "key.weight": same("key.weight")}
STEP: Copy = {
    "step.weight": same("step.weight"),
    "step.bias": same("step.bias"),
    "log_rate": lambda member: member["log_rate"][:, None],
}


def linear(name: str, other: str) -> Copy:
    return {f"{name}.weight": same(f"{other}.weight"), f"{name}.bias": same(f"{other}.bias")}


LINEAR: list[Step] = [("readout", ("linear", "normaliser", "none"))]
LOW_RANK: list[Step] = [("class", ("low rank",))]
REACHED: dict[tuple[Framework, str], tuple[list[Step], Copy]] = {
    ("coefficient_dynamics", "retnet"): ([*LINEAR, ("scalar decay", ("fixed",))], RAW),
    ("coefficient_dynamics", "ssd"): ([*LINEAR, ("scalar decay", ("stepped", "scaled"))], {**POINTS, **STEP}),
    ("coefficient_dynamics", "forgetting"): ([("drift", ("2.0",))], {**RAW, **linear("forget", "forget")}),
    ("coefficient_dynamics", "linear"): ([("readout", ("linear", "features", "elu + 1"))], POINTS),
    ("coefficient_dynamics", "gla"): (
        [*LINEAR, ("diagonal decay", ())],
        {**RAW, "gate_down.weight": same("gate_in.weight"), **linear("gate_up", "gate_out")},
    ),
    ("coefficient_dynamics", "gated_delta"): (
        [*LINEAR, ("feature map", ("SiLU",)), ("scalar decay", ("stepped", "plain")), ("householder", ("scaled",))],
        {**POINTS, **STEP, **linear("strength", "rate")},
    ),
    ("test_time_regression", "qk_norm"): (
        [("unit points", ("2.1",))],
        {**RAW, "log_sharpness": lambda member: torch.log(torch.expm1(member["temperature"] / 4))[:, None, None]},
    ),
    ("test_time_regression", "delta"): (
        [("feature map", ("SiLU",)), ("estimator", ("online_gradient",))],
        {**RAW, **linear("weigh", "rate")},
    ),
    ("test_time_regression", "longhorn"): (
        [("estimator", ("proximal", "free"))],
        {"query.weight": same("query.weight", 1 / ROOT), "key.weight": same("key.weight"), **linear("weigh", "rate")},
    ),
    ("test_time_regression", "mesa"): (
        [
            ("estimator", ("ridge", "unit")),
            ("importance", ("sigmoid",)),
            ("forgetting", ("gated", "4.0")),
        ],
        {
            **RAW,
            **linear("weigh", "rate"),
            **linear("forget", "forget"),
            "ridge": lambda member: member["stiffness"][:, None, :],
        },
    ),
    ("test_time_regression", "local_linear"): (
        [("unit points", ("2.1",)), ("estimator", ("local_linear",))],
        {
            **RAW,
            "log_sharpness": lambda member: torch.full((HEADS, 1, 1), ROOT / 4).double().expm1().log(),
            "ridge": lambda member: member["stiffness"][:, None, None].expand(HEADS, 1, WIDTH // HEADS),
        },
    ),
    ("test_time_regression", "parallax"): (
        [("estimator", ("local_linear_step",))],
        {
            "query.weight": same("query.weight"),
            "key.weight": same("key.weight"),
            "displace.weight": same("shift.weight", -1.0),
        },
    ),
    ("matrix_mixer", "linear"): ([*LOW_RANK, ("stochastic", ("elu + 1",))], POINTS),
    ("matrix_mixer", "ssd"): ([*LOW_RANK, ("decay", ("stepped",))], {**POINTS, **STEP}),
    ("matrix_mixer", "quasiseparable"): (
        [*LOW_RANK, ("decay", ("stepped",)), ("diagonal", ())],
        {**POINTS, **STEP, **linear("own", "own")},
    ),
    ("matrix_mixer", "log_linear"): (
        [*LOW_RANK, ("decay", ("stepped",)), ("levels", ())],
        {**POINTS, **STEP, "level.weight": same("level.weight")},
    ),
    ("matrix_mixer", "cauchy"): (
        [("cauchy", ("rows",))],
        {**linear("row", "row"), **linear("column", "column")},
    ),
    ("matrix_mixer", "toeplitz"): ([("Toeplitz", ("learned",))], {"filter": same("filter")}),
    ("matrix_mixer", "dynamic_toeplitz"): (
        [("Toeplitz", ("dynamic",))],
        linear("coefficient", "coefficient"),
    ),
}
"""Gallery member: edits that lead from softmax to it, and its parameters under the names that the edits give."""


def test_the_table_covers_the_gallery() -> None:
    members = {(name, member) for name in FRAMEWORKS for member in library.gallery(name) if member != "softmax"}
    assert set(REACHED) == members


@pytest.mark.parametrize(("framework", "member"), list(REACHED), ids=lambda item: item)
def test_gallery_members_are_reached_from_softmax(tmp_path: Path, framework: Framework, member: str) -> None:
    """The edited softmax computes what the member computes (up to a constant factor), with the same declaration."""
    steps, copy = REACHED[framework, member]
    made_type = loaded(edited(framework, steps), framework, tmp_path)
    expert_type = library.load(library.gallery(framework)[member], framework)
    assert made_type.declaration.describe() == expert_type.declaration.describe()
    made = build_mechanism(made_type, WIDTH, HEADS, 3, "x").double()
    expert = build_mechanism(expert_type, WIDTH, HEADS, 4, "x").double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in expert.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.1)
        theirs = dict(expert.named_parameters())
        for name, parameter in made.named_parameters():
            if name in copy:
                parameter.copy_(copy[name](theirs))
        assert set(copy) <= set(dict(made.named_parameters()))
        x = torch.randn(2, 21, WIDTH, generator=generator, dtype=torch.float64)
        v = torch.randn(2, HEADS, 21, WIDTH // HEADS, generator=generator, dtype=torch.float64)
        ours, other = made(x, v), expert(x, v)
    factor = (ours * other).sum() / other.square().sum()
    assert torch.allclose(ours, factor * other, rtol=1e-4, atol=1e-5 * float(ours.abs().max()))


def test_crossover_brings_parameters_and_declaration(tmp_path: Path) -> None:
    """A part of one program works in another: parameters, helpers and choices come along, names do not clash."""
    edits = {edit.name: edit for edit in coefficient_dynamics.edits()}
    donor, receiver = Program(start("coefficient_dynamics")), Program(start("coefficient_dynamics"))
    edits["drift"].apply(donor, scripted("4.0"))
    assert cross(receiver, Program(donor.source()), coefficient_dynamics.COMPONENTS, scripted("evolution"))
    made = loaded(receiver.source(), "coefficient_dynamics", tmp_path)
    assert made.declaration.describe()["evolution"] == "drift"
    built = build_mechanism(made, WIDTH, HEADS, 1, "x")
    assert torch.equal(built.get_parameter("forget.bias"), torch.full((HEADS,), 4.0))
    assert certificate.certify(made, width=WIDTH, heads=HEADS, seed=1)["passed"]
    assert cross(Program(donor.source()), Program(donor.source()), coefficient_dynamics.COMPONENTS, scripted()) is None


def test_parameters_that_nothing_reads_disappear() -> None:
    program = Program(start("coefficient_dynamics"))
    edits = {edit.name: edit for edit in coefficient_dynamics.edits()}
    edits["drift"].apply(program, scripted("4.0"))
    edits["simplify"].apply(program, scripted("drift_BHT"))
    assert identity(program.source()) == identity(start("coefficient_dynamics"))


def test_identity_ignores_what_changes_nothing() -> None:
    source = start("coefficient_dynamics")
    changed = source.replace('    """Constant states', '    # a comment\n    """Constant states').replace(
        "states,", "things,"
    )
    assert identity(changed) == identity(source)
    assert identity(source.replace("math.sqrt", "math.log")) != identity(source)
    with pytest.raises(UserError, match="EVOLVE-BLOCK-START"):
        block("nothing")


def test_proposing_imports_no_torch(tmp_path: Path) -> None:
    """The process that proposes never loads torch, which would make it slow and able to run a candidate."""
    code = (
        "import sys; import evomix.evolution.propose, evomix.evolution.proposers.grammar, evomix.evolution.tell; "
        "print(sorted(name for name in sys.modules if name in ('torch', 'evomix.mechanisms.contract')))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
