"""The syntax gate: every hostile text is refused with a usable hint, honest ones and expert members pass."""

from __future__ import annotations

import ast
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from evomix.errors import UserError
from evomix.gate import allowed, frame, syntax
from evomix.mechanisms import library
from programs.honest import estimators, idioms, mixers
from programs.hostile import cunning, escapes, leaks, tampering

HOSTILE = {**escapes.PROGRAMS, **tampering.PROGRAMS, **leaks.PROGRAMS, **cunning.PROGRAMS}
HONEST = {**mixers.PROGRAMS, **estimators.PROGRAMS, **idioms.PROGRAMS}
GALLERY = [(name, member) for name in library.FRAMEWORKS for member in sorted(library.gallery(name))]


def test_the_suite_is_large_and_nothing_is_named_twice() -> None:
    tables = [escapes.PROGRAMS, tampering.PROGRAMS, leaks.PROGRAMS, cunning.PROGRAMS]
    assert len(HOSTILE) == sum(map(len, tables)) >= 60
    assert len(HONEST) == len(mixers.PROGRAMS) + len(estimators.PROGRAMS) + len(idioms.PROGRAMS) >= 25


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused_where_it_can_be_seen(name: str) -> None:
    program = HOSTILE[name]
    refusals = syntax.check(program.source, program.framework)
    assert bool(refusals) == ("syntax" in program.caught_by)
    for refusal in refusals:
        assert refusal.check.startswith("syntax.")
        assert refusal.hint.endswith(".")
        assert len(refusal.hint.split()) >= 3
        assert refusal.value


@pytest.mark.parametrize("name", HONEST)
def test_honest_text_passes_and_is_a_fixed_point_of_normalisation(name: str) -> None:
    program = HONEST[name]
    assert syntax.check(program.source, program.framework) == []
    text = syntax.normalise(program.source)
    assert syntax.check(text, program.framework) == []
    assert syntax.normalise(text) == text
    assert block_of(text) == block_of(program.source)


@pytest.mark.parametrize(("framework", "member"), GALLERY)
def test_expert_members_pass(framework: str, member: str) -> None:
    source = library.gallery(framework)[member].read_text(encoding="utf-8")
    assert syntax.check(source, framework) == []
    text = syntax.normalise(source, framework)
    assert "def reference" not in text
    assert block_of(text) == block_of(source)
    other = next(name for name in library.FRAMEWORKS if name != framework)
    assert syntax.check(source, other)


def block_of(source: str) -> str:
    """Return the tree of a file's evolve block."""
    return ast.dump(ast.parse(frame.split(source)[1]))


def test_normalisation_drops_comments_and_what_stands_below() -> None:
    source = library.standard("matrix_mixer").read_text(encoding="utf-8")
    changed = source.replace("class Mechanism", "# a comment\nclass Mechanism").replace("(x_BTD)", "( x_BTD )")
    assert changed != source
    assert syntax.normalise(changed) == syntax.normalise(source)
    with pytest.raises(ValueError, match="no import names"):
        syntax.normalise("# EVOLVE-BLOCK-START\n# EVOLVE-BLOCK-END\n")
    with pytest.raises(UserError, match="unknown framework"):
        syntax.check(source, "nothing")


def test_the_line_named_is_that_of_the_file() -> None:
    source = library.standard("matrix_mixer").read_text(encoding="utf-8").replace("torch.softmax(", "torch.load(")
    line = next(number for number, text in enumerate(source.splitlines(), 1) if "torch.load(" in text)
    assert syntax.check(source, "matrix_mixer")[0].value == f"line {line}: torch.load"


@pytest.mark.parametrize("text", ["", "\0", "# EVOLVE-BLOCK-START\n" * 3, "x" * 100_000, "(" * 5000, "\ud800"])
def test_rubbish_is_refused_without_an_exception(text: str) -> None:
    assert syntax.check(text, "matrix_mixer")
    block = f"# EVOLVE-BLOCK-START\n{text}\n# EVOLVE-BLOCK-END\n"
    assert syntax.check(block, "matrix_mixer")


def test_what_is_allowed_exists_and_what_torch_owns_is_reserved() -> None:
    roots = {"torch": torch, "nn": nn, "F": F, "math": math}
    for name in allowed.DOTTED | allowed.DRAWS:
        first, *rest = name.split(".")
        owner = roots[first]
        for part in rest:
            owner = getattr(owner, part)
    names = {name for name in dir(nn.Module()) if not name.startswith("__")}
    assert names <= allowed.MODULE_NAMES | allowed.MODULE_PRIVATE
    dangerous = {
        "data",
        "grad",
        "grad_fn",
        "item",
        "numpy",
        "register_hook",
        "as_strided",
        "set_",
        "storage",
        "os",
        "cpu",
    }
    assert not dangerous & allowed.METHODS
    assert not {name for name in allowed.METHODS if name.startswith("__")}
