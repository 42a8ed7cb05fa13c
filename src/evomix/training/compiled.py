"""Whole steps of a stack as one compiled graph: traced, and later loaded and called, where the candidate runs.

A traced step is a pure function: forward pass, loss, backward pass, clipping and AdamW, from weights, moments, tokens,
coefficients and dropout masks to new weights and moments. Compiling happens elsewhere (`compiling`): what leaves this
process is the text of `portable`, what comes back is a shared library, called without Python or unpickling.

Shapes: R runs, n parameters, B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch.func import vmap
from torch.nn import functional as F

from evomix.corpus.tokens import IGNORED
from evomix.training import portable
from evomix.training.graph import Faster, Tier
from evomix.training.optimizer import AdamW

if TYPE_CHECKING:
    from evomix.training.ensemble import Stack

TOLERANCE = 1e-5
"""Largest relative difference in loss or gradient norm between compiled and eager steps that is taken for rounding."""

GRAPH, CAPTURED = "step.json", "captured.safetensors"
"""Files of a traced step: its text, and the constants of the mechanism, which never leave the candidate's side."""


def _loss(hidden_BTD: torch.Tensor, weight_VD: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of scored targets with plain operations: the compiler fuses them by itself."""
    logits_NV = F.linear(hidden_BTD, weight_VD).flatten(0, -2)
    return F.cross_entropy(logits_NV, targets_BT.flatten(), ignore_index=IGNORED)


def _inputs(stack: Stack, tokens: torch.Tensor, changing: torch.Tensor) -> list[torch.Tensor]:
    """Return the inputs of the graph: state, what changes from step to step, masks, what never changes."""
    optimizer = stack.optimizer
    masks = stack.masks(tokens)
    return [
        *(stack.flat, optimizer.mean, optimizer.square, optimizer.clip, tokens, changing),
        *(() if masks is None else (masks,)),
        *stack.fixed.values(),
        *stack.buffers.values(),
    ]


def _step(stack: Stack, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return weights, moments, losses (R,) and gradient norms (R,) after one step, as a function of `_inputs`."""
    flat, mean, square, clip, tokens, changing, *rest = given
    flat = flat.detach().requires_grad_()
    masks = rest.pop(0) if stack.template.architecture.dropout else None
    fixed = dict(zip((*stack.fixed, *stack.buffers), rest, strict=True))
    parameters = stack.views(flat) | {name: fixed[name] for name in stack.fixed}
    inputs, targets = stack.objective.split(tokens)
    hidden = stack.hidden(parameters, {name: fixed[name] for name in stack.buffers}, inputs, masks)
    losses = vmap(_loss)(hidden, parameters["embedding.weight"], targets)
    (gradients,) = torch.autograd.grad(losses.sum(), flat)
    optimizer = AdamW(flat.detach().clone(), gradients.clone(), stack.trainers[0].memory.boundary, clip)
    optimizer.mean, optimizer.square = mean.clone(), square.clone()
    norms = optimizer.step(changing).squeeze(-1)
    return optimizer.parameters, optimizer.mean, optimizer.square, losses.detach(), norms


def _solve_triangular(
    system: torch.Tensor, right: torch.Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> torch.Tensor:
    """Return the solution of a triangular system by the older operation, for which compiled libraries have a call."""
    if not left:
        return _solve_triangular(system.mT, right.mT, upper=not upper, unitriangular=unitriangular).mT
    solution: torch.Tensor = torch.ops.aten.triangular_solve(right, system, upper, False, unitriangular)[0]
    return solution


def trace(stack: Stack, tokens: torch.Tensor, folder: Path) -> int:
    """Trace a step on tokens (R, B, …) of every step's shape and write it to `folder`; return its operations.

    Raises RefusedError when the graph cannot be carried, and whatever a mechanism raises when it cannot be traced.
    Draws masks: build a fresh stack to train.
    """
    from torch._decomp import core_aten_decompositions
    from torch.fx.experimental.proxy_tensor import make_fx

    inputs = _inputs(stack, tokens, stack.changing(0))
    traced = make_fx(lambda *given: _step(stack, *given))(*inputs)
    with torch.no_grad():  # the graph holds its own backward pass; core operations alone are left, none in place
        pure = torch.func.functionalize(traced, remove="mutations")
        aten = torch.ops.aten
        own: dict[Any, Callable[..., Any]] = {
            aten.linalg_solve_triangular.default: _solve_triangular,
            aten.__rshift__.Scalar: lambda left, right: aten.bitwise_right_shift.Tensor_Scalar(left, right),
        }
        graph = make_fx(pure, decomposition_table={**core_aten_decompositions(), **own})(*inputs)
    graph.graph.eliminate_dead_code()
    text, captured = portable.write(graph, inputs)
    save_file({f"{place:05d}": tensor.clone() for place, tensor in enumerate(captured)}, folder / CAPTURED)
    (folder / GRAPH).write_text(text, encoding="utf-8")
    return len(graph.graph.nodes)


class Compiled(Faster):
    """A stack whose steps are calls of a compiled library."""

    tier = "stacked, compiled"

    def __init__(self, stack: Stack, folder: Path) -> None:
        """Load the library of the traced step in `folder`."""
        from torch._C._aoti import AOTIModelContainerRunnerCpu

        super().__init__(stack)
        self.stack = stack
        self.captured = [tensor for _, tensor in sorted(load_file(folder / CAPTURED).items())]
        self.runner = AOTIModelContainerRunnerCpu(str(library(folder)), 1)

    @torch.no_grad()
    def step(self, step: int, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Do step `step` (0-based) on rows (R, B, …); return losses and gradient norms (R,)."""
        stack = self.stack
        results = self.runner.run([*_inputs(stack, tokens, stack.changing(step)), *self.captured])
        flat, mean, square, losses, norms = results
        stack.flat.copy_(flat)
        stack.optimizer.mean.copy_(mean)
        stack.optimizer.square.copy_(square)
        return losses, norms


def library(folder: Path) -> Path:
    """Return the compiled library in `folder`."""
    return next(folder.glob("*.so"))


def machine_code(folder: Path) -> str:
    """Return what decides the machine code of the library in `folder`: a digest of graph, compiler and processor."""
    return library(folder).name.split(".")[0]


def compiled_tier(stack: Stack, folder: Path) -> Tier:
    """Return the way of taking steps whose compiled library is in `folder`."""
    return Tier("a compiled graph", lambda: Compiled(stack, folder), TOLERANCE)
