"""Edits of coefficient dynamics: readout, normaliser, evolution matrices, impulse scaling, points."""

from __future__ import annotations

import ast

from evomix.evolution.grammar.editor import Program, expression
from evomix.evolution.grammar.edits import (
    FIXED_DECAY,
    FIXED_RATES,
    PER_HEAD,
    POSITIVE,
    RATES,
    STEPS,
    Draw,
    Edit,
    Site,
    point_edits,
)

QUERY, KEY = Site("queries"), Site("keys")
READOUTS = {
    "linear": None,
    "exponential": "torch.exp(score_BHTT - score_BHTT.amax(-1, keepdim=True).detach())",
    "elu + 1": "F.elu(score_BHTT) + (1 + 1e-06)",
    "softplus": "F.softplus(score_BHTT) + 1e-06",
    "sigmoid": "torch.sigmoid(score_BHTT) + 1e-06",
    "squared ReLU": "F.relu(score_BHTT).square()",
    "tanh": "torch.tanh(score_BHTT)",
}
NORMALISERS = {
    "none": None,
    "row sum": "weight_BHTT.sum(-1, keepdim=True)",
    "one plus absolute sum": "1 + weight_BHTT.abs().sum(-1, keepdim=True)",
    "root of one plus squares": "torch.sqrt(1 + weight_BHTT.square().sum(-1, keepdim=True))",
}
_ALWAYS_POSITIVE = ("elu + 1", "softplus", "sigmoid")


def _readout(program: Program, draw: Draw) -> str | None:
    name = draw(list(READOUTS))
    _set_readout(program, name)
    return f"{name} readout{_reconcile(program, draw)}"


def _set_readout(program: Program, name: str) -> None:
    body = READOUTS[name]
    program.remove("readout")
    if body:
        program.put_method(f"def readout(self, score_BHTT: Tensor) -> Tensor: return {body}")
    kind = {"linear": "linear", "exponential": "exp"}.get(name, "other")
    program.declare(readout=kind)


def _normaliser(program: Program, draw: Draw) -> str | None:
    name = draw(list(NORMALISERS))
    _set_normaliser(program, name)
    return f"normaliser: {name}{_reconcile(program, draw)}"


def _set_normaliser(program: Program, name: str) -> None:
    body = NORMALISERS[name]
    program.remove("normaliser")
    if body:
        program.put_method(f"def normaliser(self, weight_BHTT: Tensor) -> Tensor: return {body}")
    program.declare(normaliser={"none": "none", "row sum": "row_sum"}.get(name, "other"))


def _reconcile(program: Program, draw: Draw) -> str:
    """Mend what an edit made impossible: rows that may sum to zero, an unnormalised exponential, a useless drift."""
    done = ""
    declared = program.declaration
    if declared.get("readout") == "exp" and declared.get("normaliser") in ("none", None):
        _set_normaliser(program, "row sum")
        done = " with row sum"
    elif declared.get("normaliser") == "row_sum" and not _positive(program):
        if declared.get("readout") == "linear" and draw(["features", "normaliser"]) == "features":
            name = draw(list(POSITIVE))
            if QUERY.wrap(program, POSITIVE[name]) and KEY.wrap(program, POSITIVE[name]):
                done = f" with {name} features"
        if not done:
            name = draw(["none", "one plus absolute sum"])
            _set_normaliser(program, name)
            done = f", normaliser: {name}"
    if declared.get("readout") != "exp" and "drift_BHT" in _parts(program):
        _drop(program, "drift_BHT")
        done += ", without drift"
    return done


def _positive(program: Program) -> bool:
    """Whether every weight is surely positive: by the readout, or by positive features under a linear one."""
    body = program.text("readout")
    if body:
        return "exp(" in body or any(READOUTS[name] in body for name in _ALWAYS_POSITIVE)  # type: ignore[operator]
    outer = [program.returned(method) for method in ("queries", "keys")]
    heads = [template.split("HOLE")[0] for template in POSITIVE.values()]
    return all(node is not None and any(head in ast.unparse(node) for head in heads) for node in outer)


# Evolution matrices: optional parts, added and removed one at a time.


def _parts(program: Program) -> list[str]:
    """Return the keywords of the Evolution that the program returns; empty for the identity."""
    node = program.returned("evolution")
    return [item.arg or "" for item in node.keywords] if isinstance(node, ast.Call) else []


def _add_part(program: Program, **keywords: str) -> None:
    """Add a part to what `evolution` returns; drift stands alone."""
    if not program.has("evolution"):
        program.put_method("def evolution(self, x_BTD: Tensor, key_BHTN: Tensor) -> Evolution: return Evolution()")
    node = program.returned("evolution")
    if isinstance(node, ast.Call):
        other = [item for item in node.keywords if (item.arg == "drift_BHT") != ("drift_BHT" in keywords)]
        node.keywords = [item for item in node.keywords if item not in other]
        for name, text in keywords.items():
            node.keywords = [item for item in node.keywords if item.arg != name]
            node.keywords.append(ast.keyword(arg=name, value=expression(text)))
    _declare_evolution(program)


def _drop(program: Program, *names: str) -> None:
    node = program.returned("evolution")
    if isinstance(node, ast.Call):
        node.keywords = [item for item in node.keywords if item.arg not in names]
        if not node.keywords:
            program.remove("evolution")
    _declare_evolution(program)


def _declare_evolution(program: Program) -> None:
    parts = _parts(program)
    order = [("direction_BHTN", "householder"), ("log_diagonal_BHTN", "diagonal"), ("log_scalar_BHT", "scalar")]
    kind = next((name for part, name in [*order, ("drift_BHT", "drift")] if part in parts), "identity")
    program.declare(evolution=kind)


def _scalar(program: Program, draw: Draw) -> str | None:
    """Scalar decay: fixed per head (RetNet), gated by the input, or by an input-dependent step (SSD)."""
    kind = draw(["fixed", "gated", "stepped"])
    if kind == "fixed":
        name = program.add_parameter("decay_rate", "nn.Parameter(torch.zeros(heads, 1))", FIXED_RATES)
        log = FIXED_DECAY.format(name)
    elif kind == "gated":
        bias = draw(["2.0", "4.0"])
        name = program.add_parameter("gate", "nn.Linear(width, heads)", f"NAME.bias.fill_({bias})")
        log = f"F.logsigmoid({PER_HEAD.format(name)})"
    else:
        step = program.add_parameter("step", "nn.Linear(width, heads)", STEPS)
        rate = program.add_parameter("log_rate", "nn.Parameter(torch.zeros(heads, 1))", RATES)
        delta = f"F.softplus({PER_HEAD.format(step)})"
        log = f"-torch.exp(self.{rate}) * {delta}"
        if draw(["scaled", "plain"]) == "scaled":
            program.put_method(f"def scaling(self, x_BTD: Tensor) -> Tensor: return {delta}")
    _add_part(program, log_scalar_BHT=log)
    return f"{kind} scalar decay"


def _diagonal(program: Program, draw: Draw) -> str | None:
    """Diagonal decay per channel through a low-rank gate (GLA)."""
    if "log_diagonal_BHTN" in _parts(program):
        return None
    down = program.add_parameter("gate_down", "nn.Linear(width, 16, bias=False)")
    up = program.add_parameter("gate_up", "nn.Linear(16, width)", "NAME.bias.fill_(2.0)")
    _drop(program, "log_scalar_BHT", "direction_BHTN", "strength_BHT")
    gate = f"self.split_heads(F.logsigmoid(self.{up}(self.{down}(x_BTD)))) / 16"
    _add_part(program, log_diagonal_BHTN=gate)
    return "diagonal decay by a low-rank gate"


def _householder(program: Program, draw: Draw) -> str | None:
    """Householder-like transitions along the keys with an input-dependent strength β and scaling b = β (delta rule)."""
    if "direction_BHTN" in _parts(program):
        return None
    name = program.add_parameter("strength", "nn.Linear(width, heads)")
    beta = f"torch.sigmoid({PER_HEAD.format(name)})"
    for site in (QUERY, KEY):
        site.wrap(program, "l2_normalise(HOLE)")
    if draw(["scaled", "plain"]) == "scaled":
        program.put_method(f"def scaling(self, x_BTD: Tensor) -> Tensor: return {beta}")
    _drop(program, "log_diagonal_BHTN")
    _add_part(program, direction_BHTN="l2_normalise(key_BHTN)", strength_BHT=beta)
    return f"delta-rule transitions{_reconcile(program, draw)}"


def _drift(program: Program, draw: Draw) -> str | None:
    """Additive forgetting in the exponent (forgetting attention)."""
    if program.declaration.get("readout") != "exp" or "drift_BHT" in _parts(program):
        return None
    bias = draw(["2.0", "4.0", "6.0"])
    name = program.add_parameter("forget", "nn.Linear(width, heads)", f"NAME.bias.fill_({bias})")
    _add_part(program, drift_BHT=f"F.logsigmoid({PER_HEAD.format(name)})")
    return "forget gate in the exponent"


def _simplify(program: Program, draw: Draw) -> str | None:
    """Remove one part of the evolution matrices."""
    groups = {"log_scalar_BHT": (), "log_diagonal_BHTN": (), "drift_BHT": (), "direction_BHTN": ("strength_BHT",)}
    present = [name for name in groups if name in _parts(program)]
    if not present:
        return None
    name = draw(present)
    _drop(program, name, *groups[name])
    return f"without {name.split('_BHT')[0].replace('_', ' ')}"


def _scaling(program: Program, draw: Draw) -> str | None:
    """Scale the impulses by an input gate b, or stop doing so."""
    kind = draw(["torch.sigmoid", "F.softplus", "none"])
    if kind == "none":
        if not program.has("scaling") or "self.scaling(" in program.text("evolution"):
            return None
        program.remove("scaling")
        return "no scaling of impulses"
    name = program.add_parameter("input_gate", "nn.Linear(width, heads)")
    program.put_method(f"def scaling(self, x_BTD: Tensor) -> Tensor: return {kind}({PER_HEAD.format(name)})")
    return f"impulses scaled by a {kind.split('.')[-1]} gate"


def edits() -> list[Edit]:
    """Return all edits of the framework."""
    return [
        Edit("readout", 3.0, _readout),
        Edit("normaliser", 1.5, _normaliser),
        Edit("scalar decay", 2.0, _scalar),
        Edit("diagonal decay", 1.0, _diagonal),
        Edit("householder", 1.0, _householder),
        Edit("drift", 1.5, _drift),
        Edit("simplify", 1.0, _simplify),
        Edit("scaling", 1.0, _scaling),
        *point_edits(QUERY, KEY),
    ]


COMPONENTS = {
    "readout": (("readout",), ("readout",)),
    "normaliser": (("normaliser",), ("normaliser",)),
    "evolution": (("evolution",), ("evolution",)),
    "queries": (("queries",), ()),
    "keys": (("keys",), ()),
    "scaling": (("scaling",), ()),
}
"""Crossover units: name: (methods, declaration keywords) that travel together."""
