"""What a mechanism file says of itself, read as text: words, declared choices, parts. Nothing of it is executed."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from evomix.report.diff import evolvable

EQUATIONS = {
    "coefficient_dynamics": "h_{j,j} = b_j k_j,   h_{i,j} = A_i h_{i-1,j},   α_{i,j} = φ(q_iᵀ h_{i,j}) / η_i,   "
    "y_i = Σ_{j≤i} α_{i,j} v_j",
    "test_time_regression": "m_t = argmin_m Σ_{i≤t} w_{t,i} ‖v_i − m(k_i)‖² + penalty,   y_t = m_t(q_t)",
    "matrix_mixer": "Y^h = M^h V^h",
}
"""The equation of each framework, as its contract states it."""

_STATEMENTS = {"flops"}
"""Methods that state a cost and compute nothing."""


@dataclass(frozen=True)
class Anatomy:
    """One mechanism: its docstrings, declared choices (keyword: value as written), and source of every part."""

    words: str = ""
    choices: dict[str, str] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)


def _declared(node: ast.stmt) -> dict[str, str] | None:
    """Return the keywords of `declaration = Declaration(…)`, or None when the statement is another."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
        return None
    if not any(isinstance(target, ast.Name) and target.id == "declaration" for target in node.targets):
        return None
    return {word.arg: ast.unparse(word.value) for word in node.value.keywords if word.arg}


def dissect(source: str) -> Anatomy:
    """Return the anatomy of a mechanism's source; of text that is no Python, or has no class, an empty one."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Anatomy()
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    body = next((node for node in classes if any(_declared(item) is not None for item in node.body)), None)
    body = body or next(iter(classes), None)
    if body is None:
        return Anatomy()
    choices: dict[str, str] = {}
    parts: dict[str, str] = {}
    for item in body.body:
        choices |= _declared(item) or {}
        if isinstance(item, ast.FunctionDef) and item.name not in _STATEMENTS:
            parts[item.name] = ast.unparse(item)
    # Functions beside the class belong to it as much as its methods.
    functions = [item for item in tree.body if isinstance(item, ast.FunctionDef)]
    parts |= {item.name: ast.unparse(item) for item in functions if item.lineno <= evolvable(source).count("\n") + 1}
    return Anatomy(" ".join((ast.get_docstring(body) or "").split()), choices, parts)


def changed_parts(old: Anatomy, new: Anatomy) -> dict[str, list[str]]:
    """Return the names of parts that `new` changed, added and left out."""
    return {
        "changed": [name for name, text in new.parts.items() if name in old.parts and old.parts[name] != text],
        "added": [name for name in new.parts if name not in old.parts],
        "left out": [name for name in old.parts if name not in new.parts],
    }


def choices_side_by_side(old: Anatomy, new: Anatomy) -> list[tuple[str, str, str]]:
    """Return (choice, standard, evolved) for every declared keyword; a choice left to its default reads `default`."""
    names = dict.fromkeys([*old.choices, *new.choices])
    return [(name, old.choices.get(name, "default"), new.choices.get(name, "default")) for name in names]
