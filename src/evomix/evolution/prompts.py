"""Prompts: Markdown files per framework and patch kind, filled with the contract, the gate's rules and the judgement.

What a mechanism may write is quoted from the contract's own docstring and the gate's own lists, so that prompt,
contract and gate cannot drift apart. Sources are read as text; nothing of a mechanism is imported or run.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomix.evolution.openevolve_adapter.prompting import build_prompt
from evomix.evolution.proposers.base import Task
from evomix.gate import syntax
from evomix.gate.frame import frame
from evomix.model.sizes import non_embedding_parameters
from evomix.specs import SearchSpec
from evomix.streams import derive

if TYPE_CHECKING:  # quoted below, so that the code fingerprint of a proposal covers them
    from evomix.mechanisms import operators  # noqa: F401
    from evomix.mechanisms.coefficient_dynamics import contract as coefficient_dynamics  # noqa: F401
    from evomix.mechanisms.matrix_mixer import contract as matrix_mixer  # noqa: F401
    from evomix.mechanisms.test_time_regression import contract as test_time_regression  # noqa: F401

_FOLDER = Path(__file__).resolve().parent / "prompts"
_MECHANISMS = Path(__file__).resolve().parents[1] / "mechanisms"
_TEMPLATES = ("evolution_history", "previous_attempt", "top_program", "inspirations_section", "inspiration_program")


def _read(name: str) -> str:
    return (_FOLDER / f"{name}.md").read_text(encoding="utf-8")


def build(search: SearchSpec, task: Task) -> tuple[str, str]:
    """Return the system and user message of a task."""
    templates = {name: _read(name).strip() for name in _TEMPLATES}
    templates |= {kind: _read(kind) for kind in ("diff", "full", "crossover", "fix")}
    return build_prompt(
        system(search),
        templates,
        task.patch,
        parent=task.parent,
        top=[item for item in task.top if item.candidate != task.parent.candidate],
        inspirations=task.inspirations,
        previous=[_attempt(outcome) for outcome in task.previous],
        seed=derive(task.seed, "prompt"),
        fault=task.fault or "",
        partner=task.partner.source if task.partner else "",
    )


def system(search: SearchSpec) -> str:
    """Return the system message of a framework's search."""
    text = _read(search.framework)
    fields = {
        "contract": _docstring(_MECHANISMS / search.framework / "contract.py"),
        "declaration": _declaration(_MECHANISMS / search.framework / "contract.py"),
        "operators": _signatures(_MECHANISMS / "operators.py"),
        "rules": _rules(search),
        "judgement": _judgement(search),
    }
    for name, value in fields.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def refused(reason: str) -> str:
    """Return the message that sends a refused attempt back."""
    return _read("refused").replace("{{reason}}", reason)


def _attempt(outcome: dict[str, Any]) -> dict[str, Any]:
    """Return an earlier candidate as the prompt sampler reads it."""
    result = f"score {outcome['score']:.4f}" if outcome["score"] is not None else ""
    if outcome["status"] != "accepted":
        result = f"{outcome['status']} by check {outcome['check']}: {outcome['reason'][:300]}"
    return {"changes_description": outcome["changes"] or "(not described)", "metrics": {"result": result}}


def _classes(path: Path) -> list[ast.ClassDef]:
    return [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]


def _docstring(path: Path) -> str:
    """Return name and docstring of the contract class, the last class of its module."""
    node = _classes(path)[-1]
    return f"`class Mechanism({node.name})`: {ast.get_docstring(node)}"


def _declaration(path: Path) -> str:
    """Return the source of the framework's Declaration."""
    return ast.unparse(next(node for node in _classes(path) if node.name == "Declaration"))


def _signatures(path: Path) -> str:
    """Return signature and first docstring line of every public function of a module, as a list."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    return "\n".join(
        f"- `{node.name}({ast.unparse(node.args)})`: {(ast.get_docstring(node) or '').split(chr(10))[0]}"
        for node in functions
    )


def _rules(search: SearchSpec) -> str:
    """Return the gate's rules in words, with its limits."""
    allowed = frame(search.framework)
    fields = {
        "evolvable": ", ".join(f"`{name}`" for name in sorted(allowed.evolvable)),
        "names": ", ".join(f"`{name}`" for name in sorted(allowed.names)),
        "bytes": f"{syntax.LIMITS['bytes']:,}",
        "numbers": str(syntax.LIMITS["numbers"]),
        "parameter_budget": f"{search.parameter_budget:g}",
        "flop_budget": f"{search.flop_budget:g}",
    }
    text = _read("rules").strip()
    for name, value in fields.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def _judgement(search: SearchSpec) -> str:
    """Return how candidates are judged, with the numbers of this search."""
    counts = [f"{non_embedding_parameters(item.width, item.layers):,}" for item in search.architectures.values()]
    first = next(iter(search.architectures.values()))
    kind = "slope" if search.fitness == "slope" else "gain"
    fields = {
        "sizes": ", ".join(counts),
        "steps": f"{search.optimisation.steps:,}",
        "tokens": str(first.sequence_length),
        "margin": f"{search.margin:g}",
    }
    text = _read(f"judgement_{kind}").strip()
    for name, value in fields.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text
