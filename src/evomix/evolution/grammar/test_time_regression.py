"""Edits of test-time regression: estimator and solver, kernel, bandwidth, weights, forgetting, penalty, points."""

from __future__ import annotations

import ast

from evomix.evolution.grammar.editor import Program
from evomix.evolution.grammar.edits import FIXED_DECAY, FIXED_RATES, PER_HEAD, Draw, Edit, Site, point_edits

QUERY, KEY = Site("queries"), Site("keys")
LOCAL = ("local_constant", "local_linear", "local_linear_step")
ESTIMATORS = (*LOCAL, "ridge", "online_gradient", "proximal")

_SQUARES = (
    "(query_BHTN.square().sum(-1, keepdim=True) + key_BHTN.square().sum(-1).unsqueeze(-2) "
    "- 2 * query_BHTN @ key_BHTN.mT)"
)
KERNELS = {
    "exponential": "query_BHTN @ key_BHTN.mT / math.sqrt(self.head_width)",
    "Gaussian": f"-0.5 * {_SQUARES} / math.sqrt(self.head_width)",
    "Student": f"-torch.log1p({_SQUARES}.clamp(min=0.0) / self.head_width)",
    "softplus": "F.softplus(query_BHTN @ key_BHTN.mT / math.sqrt(self.head_width)).clamp(min=1e-6).log()",
    "sigmoid": "F.logsigmoid(query_BHTN @ key_BHTN.mT / math.sqrt(self.head_width))",
    "quadratic": "torch.log1p((query_BHTN @ key_BHTN.mT).square() / self.head_width)",
}


def _estimator(program: Program, draw: Draw) -> str | None:
    old = str(program.declaration.get("estimator"))
    name = draw([other for other in ESTIMATORS if other != old])
    program.declare(estimator=name, steps=None)
    text = f"{name.replace('_', ' ')} estimator"
    if name not in LOCAL:
        program.remove("log_kernel")
        if name == "online_gradient" or draw(["unit", "free"]) == "unit":
            QUERY.wrap(program, "l2_normalise(HOLE)")
            KEY.wrap(program, "l2_normalise(HOLE)")
            text += " with unit points"
        if name != "ridge" and not program.has("importance"):
            _put_importance(program, "sigmoid")
    elif old not in LOCAL:
        _put_kernel(program, "exponential")
    _provide(program, name)
    return text


def _provide(program: Program, estimator: str) -> None:
    """Add the part that an estimator needs, and remove those that it does not read."""
    if estimator not in ("local_linear", "ridge"):
        program.remove("penalty")
    elif not program.has("penalty"):
        _put_penalty(program, "0.25")
    if estimator != "local_linear_step":
        program.remove("displacement")
    elif not program.has("displacement"):
        start = "NAME.weight.zero_()"
        name = program.add_parameter("displace", "nn.Linear(width, width, bias=False)", start)
        program.put_method(
            f"def displacement(self, x_BTD: Tensor) -> Tensor: return self.split_heads(self.{name}(x_BTD))"
        )


def _kernel(program: Program, draw: Draw) -> str | None:
    if program.declaration.get("estimator") not in LOCAL:
        return None
    name = draw(list(KERNELS))
    _put_kernel(program, name)
    return f"{name} kernel"


def _put_kernel(program: Program, name: str) -> None:
    program.put_method(f"def log_kernel(self, query_BHTN: Tensor, key_BHTN: Tensor) -> Tensor: return {KERNELS[name]}")


def _bandwidth(program: Program, draw: Draw) -> str | None:
    """Learn the kernel's bandwidth per head, or scale it."""
    if not program.has("log_kernel"):
        return None
    if draw(["learned", "scaled"]) == "learned" and "log_bandwidth" not in program.attributes:
        name = program.add_parameter("log_bandwidth", "nn.Parameter(torch.zeros(heads, 1, 1))")
        done = program.wrap_return("log_kernel", f"(HOLE) * torch.exp(self.{name})")
        return "learned bandwidth per head" if done else None
    factor = draw(["0.5", "1.5", "2.0"])
    return f"log kernel times {factor}" if program.wrap_return("log_kernel", f"(HOLE) * {factor}") else None


def _unit_points(program: Program, draw: Draw) -> str | None:
    """Normalise queries and keys, with a learned temperature for local estimators (QK-norm)."""
    if not (QUERY.wrap(program, "l2_normalise(HOLE)") and KEY.wrap(program, "l2_normalise(HOLE)")):
        return None
    if program.declaration.get("estimator") in LOCAL and "log_sharpness" not in program.attributes:
        start = draw(["2.1", "2.3"])
        name = program.add_parameter("log_sharpness", f"nn.Parameter(torch.full((heads, 1, 1), {start}))")
        program.put_method(
            "def log_kernel(self, query_BHTN: Tensor, key_BHTN: Tensor) -> Tensor: "
            f"return query_BHTN @ key_BHTN.mT * F.softplus(self.{name}) * 4"
        )
    return "unit queries and keys with a learned sharpness"


def _decay(program: Program, draw: Draw) -> str | None:
    kind = draw(["none", "gated", "fixed"])
    if kind == "none":
        if not program.has("log_decay"):
            return None
        program.remove("log_decay")
        return "no forgetting"
    program.remove("log_decay")
    if kind == "gated":
        bias = draw(["2.0", "4.0", "6.0"])
        name = program.add_parameter("forget", "nn.Linear(width, heads)", f"NAME.bias.fill_({bias})")
        body = f"F.logsigmoid({PER_HEAD.format(name)})"
    else:
        name = program.add_parameter("decay_rate", "nn.Parameter(torch.zeros(heads, 1))", FIXED_RATES)
        body = FIXED_DECAY.format(name)
    program.put_method(f"def log_decay(self, x_BTD: Tensor) -> Tensor: return {body}")
    return f"{kind} forgetting"


def _importance(program: Program, draw: Draw) -> str | None:
    kind = draw(["none", "sigmoid", "softplus"])
    estimator = program.declaration.get("estimator")
    if kind == "none" and (estimator == "online_gradient" or not program.has("importance")):
        return None
    if kind == "softplus" and estimator == "online_gradient":
        return None
    program.remove("importance")
    if kind != "none":
        _put_importance(program, kind)
    return "no importance" if kind == "none" else f"{kind} importance of points"


def _put_importance(program: Program, kind: str) -> None:
    name = program.add_parameter("weigh", "nn.Linear(width, heads)")
    function = {"sigmoid": "torch.sigmoid", "softplus": "F.softplus"}[kind]
    body = f"{function}({PER_HEAD.format(name)}).clamp(min=1e-6)"
    program.put_method(f"def importance(self, x_BTD: Tensor) -> Tensor: return {body}")


def _penalty(program: Program, draw: Draw) -> str | None:
    if not program.has("penalty"):
        return None
    floor = draw(["0.05", "0.25", "1.0"])
    program.remove("penalty")
    _put_penalty(program, floor)
    return f"ridge penalty at least {floor}"


def _put_penalty(program: Program, floor: str) -> None:
    name = program.add_parameter("ridge", "nn.Parameter(torch.zeros(heads, 1, width // heads))")
    program.put_method(f"def penalty(self, x_BTD: Tensor) -> Tensor: return {floor} + F.softplus(self.{name})")


def _steps(program: Program, draw: Draw) -> str | None:
    if program.declaration.get("estimator") != "online_gradient":
        return None
    number = draw(["1", "2", "3"])
    program.declare(steps=int(number))
    return f"{number} gradient steps per token"


def _tie(program: Program, draw: Draw) -> str | None:
    """Use one map for queries and keys, or separate them again."""
    query, key = program.returned("queries"), program.returned("keys")
    if query is None or key is None:
        return None
    source, target, new = (
        ("query", "key", "keys") if draw(["keys", "queries"]) == "keys" else ("key", "query", "queries")
    )
    node = program.returned(new)
    if node is None or f"self.{target}(" not in ast.unparse(node):
        return None
    if source not in program.attributes:
        program.add_parameter(source, "nn.Linear(width, width, bias=False)")
    program.set_return(
        new, ast.parse(ast.unparse(node).replace(f"self.{target}(", f"self.{source}("), mode="eval").body
    )
    return f"{new} from the map of {'queries' if source == 'query' else 'keys'}"


def edits() -> list[Edit]:
    """Return all edits of the framework."""
    return [
        Edit("estimator", 3.0, _estimator),
        Edit("kernel", 2.0, _kernel),
        Edit("bandwidth", 1.0, _bandwidth),
        Edit("unit points", 1.0, _unit_points),
        Edit("forgetting", 2.0, _decay),
        Edit("importance", 1.5, _importance),
        Edit("penalty", 0.7, _penalty),
        Edit("steps", 0.7, _steps),
        Edit("tie", 0.4, _tie),
        *point_edits(QUERY, KEY),
    ]


COMPONENTS = {
    "kernel": (("log_kernel",), ()),
    "forgetting": (("log_decay",), ()),
    "importance": (("importance",), ()),
    "queries": (("queries",), ()),
    "keys": (("keys",), ()),
    "points": (("queries", "keys"), ()),
    "estimator": (("log_kernel", "penalty", "displacement", "importance"), ("estimator", "steps")),
}
"""Crossover units: name: (methods, declaration keywords) that travel together."""
