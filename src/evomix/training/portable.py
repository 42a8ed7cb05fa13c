"""A graph of tensor operations as plain data: written where a candidate runs, read where the compiler runs.

The text is JSON: shapes and dtypes of the inputs, operations by name with references, numbers and dtypes as arguments,
and what is returned. It holds no code, no tensor and no text of the candidate's. Whoever reads it trusts none of it:
operations must be of torch's core set, functional and deterministic; every shape is computed again, without data.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from evomix.errors import UserError

MOST_OPERATIONS = 20_000
MOST_BYTES = 2**24
"""Limits of a graph's text that is read at all."""
MOST_ELEMENTS = 2**31
"""Elements of the largest tensor of a graph."""
MOST_INPUTS = 2**29
"""Elements of all inputs of a graph together, of which the compiler makes examples."""

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.uint8, torch.bool,
        torch.complex64, torch.complex128,
    )
}  # fmt: skip
_FORMATS = {"contiguous_format": torch.contiguous_format, "preserve_format": torch.preserve_format}
_NUMBERS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_WORDS = {"none", "tanh"}
"""The text arguments that occur: how GELU is approximated."""
_PLACES = {"device", "layout", "pin_memory"}
"""Arguments that are left out: everything is dense and on the device of the compiler."""
_NAME = re.compile(r"aten\.([a-z0-9_]+)\.([A-Za-z0-9_]+)")
_ALSO = {
    *(f"aten.{name}.default" for name in ("diagonal_scatter", "empty_permuted", "exp2", "linalg_vector_norm")),
    *("aten.triangular_solve.default", "aten.bitwise_right_shift.Tensor_Scalar"),
}
"""Operations outside the core set that steps hold all the same."""
_REFUSED_TAGS = ("nondeterministic_seeded", "dynamic_output_shape", "data_dependent_output")


class RefusedError(UserError):
    """A graph is not taken; the text says why."""


def operation(name: str) -> Callable[..., Any]:
    """Return the operation `aten.NAME.OVERLOAD`; RefusedError unless it is core, functional and deterministic."""
    found = _NAME.fullmatch(name)
    overload = getattr(getattr(torch.ops.aten, found[1], None), found[2], None) if found else None
    if not isinstance(overload, torch._ops.OpOverload):
        raise RefusedError(f"operation {name[:80]!r} is unknown")
    refused = {getattr(torch.Tag, tag) for tag in _REFUSED_TAGS} & set(overload.tags)
    core = torch.Tag.core in overload.tags or name in _ALSO
    if not core or overload._schema.is_mutable or refused:
        raise RefusedError(f"operation {name} is not one that may be compiled")
    return overload


def write(module: fx.GraphModule, inputs: Sequence[torch.Tensor]) -> tuple[str, list[torch.Tensor]]:
    """Return the text of a traced graph, and the tensors it captured, which become inputs behind `inputs`.

    RefusedError when the graph holds anything that the reader would not take.
    """
    graph = module.graph
    lifted = [node for node in graph.nodes if node.op == "get_attr"]
    captured = [operator.attrgetter(node.target)(module).detach().contiguous() for node in lifted]
    starts = [*(node for node in graph.nodes if node.op == "placeholder"), *lifted]
    places: dict[fx.Node, Any] = {node: {"value": index} for index, node in enumerate(starts)}

    def encode(value: Any) -> Any:
        if isinstance(value, fx.Node):
            return places[value]
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"number": str(value)}
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        if isinstance(value, torch.memory_format):
            return {"format": str(value).removeprefix("torch.")}
        if isinstance(value, list | tuple):
            return [encode(item) for item in value]
        raise RefusedError(f"an argument is a {type(value).__name__}")

    operations: list[Any] = []
    results: Any = None
    for node in graph.nodes:
        if node.op == "call_function" and node.target is operator.getitem:
            places[node] = {**places[node.args[0]], "item": node.args[1]}
        elif node.op == "call_function":
            operation(str(node.target))
            places[node] = {"value": len(starts) + len(operations)}
            named = {key: encode(value) for key, value in node.kwargs.items() if key not in _PLACES}
            operations.append([str(node.target), [encode(value) for value in node.args], named])
        elif node.op == "output":
            results = encode(list(node.args[0]))
    shapes = [[str(each.dtype).removeprefix("torch."), list(each.shape)] for each in (*inputs, *captured)]
    return json.dumps({"inputs": shapes, "operations": operations, "results": results}), captured


def _choose(table: dict[str, Any], name: Any, what: str) -> Any:
    if not isinstance(name, str) or name not in table:
        raise RefusedError(f"{what} {str(name)[:80]!r} is unknown")
    return table[name]


def _input(entry: Any, device: str) -> torch.Tensor:
    """Return an empty tensor as described; under a fake mode it takes no memory."""
    dtype, shape = entry
    if not all(type(size) is int and size >= 0 for size in shape) or math.prod(shape) > MOST_INPUTS:
        raise RefusedError(f"an input has the shape {str(shape)[:80]}")
    return torch.empty(shape, dtype=_choose(_DTYPES, dtype, "dtype"), device=device)


def _makes(target: Callable[..., Any]) -> bool:
    """Return whether an operation makes a tensor from none, and so must be told where."""
    given = target._schema.arguments  # type: ignore[attr-defined]
    return any(each.name == "device" for each in given) and not any(str(each.type) == "Tensor" for each in given)


class _Reader:
    """Builds a graph node by node beside the fake values of its nodes."""

    def __init__(self, inputs: list[torch.Tensor], device: str) -> None:
        self.graph = fx.Graph()
        self.device = torch.device(device)
        self.nodes = [self.graph.placeholder(f"input_{index}") for index in range(len(inputs))]
        self.values: list[Any] = list(inputs)

    def decode(self, value: Any) -> tuple[Any, Any]:
        """Return an argument twice: with nodes of the graph, with fake values."""
        if value is None or isinstance(value, bool | int | float):
            return value, value
        if isinstance(value, str):
            return (_choose(dict.fromkeys(_WORDS, value), value, "word"),) * 2
        if isinstance(value, list):
            both = [self.decode(item) for item in value]
            return [node for node, _ in both], [fake for _, fake in both]
        for key, table in (("dtype", _DTYPES), ("format", _FORMATS), ("number", _NUMBERS)):
            if set(value) == {key}:
                return (_choose(table, value[key], key),) * 2
        place = value.get("value")
        if type(place) is not int or not 0 <= place < len(self.nodes) or set(value) - {"value", "item"}:
            raise RefusedError(f"an argument is {str(value)[:80]}")
        if "item" not in value:
            return self.nodes[place], self.values[place]
        item = value["item"]
        if type(item) is not int or not isinstance(self.values[place], tuple | list):
            raise RefusedError(f"an argument is {str(value)[:80]}")
        return self.graph.call_function(operator.getitem, (self.nodes[place], item)), self.values[place][item]

    def add(self, name: Any, positional: Any, named: Any) -> None:
        """Add one operation."""
        target = operation(str(name))
        positional, named = list(positional), dict(named)
        if set(named) & _PLACES:
            raise RefusedError(f"operation {name} names a device or a layout")
        arguments = [self.decode(value) for value in positional]
        keywords = {str(key): self.decode(value) for key, value in named.items()}
        if _makes(target):
            keywords["device"] = (self.device, self.device)
        fake = target(*(each[1] for each in arguments), **{key: each[1] for key, each in keywords.items()})
        for part in fake if isinstance(fake, tuple | list) else [fake]:
            if isinstance(part, torch.Tensor) and part.numel() > MOST_ELEMENTS:
                raise RefusedError(f"operation {name} yields a tensor of shape {list(part.shape)}")
        self.values.append(fake)
        self.nodes.append(
            self.graph.call_function(
                target, tuple(each[0] for each in arguments), {key: each[0] for key, each in keywords.items()}
            )
        )


def read(text: str, device: str = "cpu") -> tuple[fx.GraphModule, list[torch.Tensor]]:
    """Return the graph that `text` describes and zeros of the shapes of its inputs, all on `device`.

    RefusedError for anything else.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    if len(text) > MOST_BYTES:
        raise RefusedError(f"the graph's text has {len(text)} characters, more than {MOST_BYTES}")
    try:
        content = json.loads(text)
        if len(content["operations"]) > MOST_OPERATIONS:
            raise RefusedError(f"the graph has {len(content['operations'])} operations, more than {MOST_OPERATIONS}")
        with FakeTensorMode(allow_fallback_kernels=False):
            inputs = [_input(entry, device) for entry in content["inputs"]]
            if sum(each.numel() for each in inputs) > MOST_INPUTS:
                raise RefusedError("the graph's inputs are too large")
            reader = _Reader(inputs, device)
            for name, positional, named in content["operations"]:
                reader.add(name, positional, named)
            reader.graph.output(tuple(reader.decode(result)[0] for result in content["results"]))
    except RefusedError:
        raise
    except Exception as error:  # what a hostile text may provoke is without limit
        first = str(error).splitlines()[0] if str(error) else ""
        raise RefusedError(f"the graph is not sound ({type(error).__name__}: {first[:200]})") from None
    return fx.GraphModule({}, reader.graph), [
        torch.zeros(each.shape, dtype=each.dtype, device=device) for each in inputs
    ]
