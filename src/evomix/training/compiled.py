"""Whole steps of a stack as one compiled graph: traced, and later loaded and called, where the candidate runs.

A stack of one is a run alone.

A traced step is a pure function: forward pass, loss, backward pass, clipping and AdamW, from weights, moments, tokens,
coefficients and dropout's draws to new weights and moments. Compiling happens elsewhere (`compiling`): what leaves this
process is the text of `portable`, what comes back a shared library for a CPU or a list of launches for a GPU
(`launches`); neither needs a compiler or unpickling.

Shapes: R runs, n parameters, B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from evomix.corpus.tokens import IGNORED
from evomix.model.dropout import masks_of
from evomix.training import portable
from evomix.training.graph import Faster, Graphed, Tier
from evomix.training.head import HeadLosses
from evomix.training.launches import Replay
from evomix.training.optimizer import AdamW

if TYPE_CHECKING:
    from evomix.training.engine import Stepper
    from evomix.training.stack import Stack

TOLERANCES = {False: 1e-5, True: 2**-8}
"""Largest relative difference in loss or gradient norm between compiled and eager steps that is taken for rounding:
in float32, and where products are bfloat16 (a compiled step rounds fewer intermediate results to it)."""

GRAPH, CAPTURED = "step.json", "captured.safetensors"
"""Files of a traced step: its text, and the constants of the mechanism, which never leave the candidate's side."""


class _FusedHeadLosses(HeadLosses):
    """Mean cross-entropy (R,) of scored targets with plain operations, which the compiler fuses by itself.

    The target is marked by comparison: scattering into the logits' gradient costs a pass over it.
    """

    @staticmethod
    def forward(ctx: Any, hidden_RND: torch.Tensor, weight_RVD: torch.Tensor, targets_RN: torch.Tensor) -> torch.Tensor:
        logits_RNV = torch.matmul(hidden_RND, weight_RVD.mT)
        wide_RNV = logits_RNV.to(torch.promote_types(logits_RNV.dtype, torch.float32))
        largest_RN1 = wide_RNV.amax(-1, keepdim=True)
        normaliser_RN1 = largest_RN1 + (wide_RNV - largest_RN1).exp().sum(-1, keepdim=True).log()
        scored_RN1 = targets_RN[..., None] != IGNORED
        index_RN1 = torch.where(scored_RN1, targets_RN[..., None], 0)
        weight_RN1 = scored_RN1.to(wide_RNV.dtype) / scored_RN1.sum(-2, keepdim=True)
        losses_RN1 = (normaliser_RN1 - wide_RNV.gather(-1, index_RN1)) * weight_RN1
        is_target_RNV = torch.arange(weight_RVD.shape[1], device=targets_RN.device) == index_RN1
        error_RNV = ((wide_RNV - normaliser_RN1).exp() - is_target_RNV.to(wide_RNV.dtype)) * weight_RN1
        error_RNV = error_RNV.to(logits_RNV.dtype)
        grad_hidden, grad_weight = torch.matmul(error_RNV, weight_RVD), torch.matmul(error_RNV.mT, hidden_RND)
        ctx.save_for_backward(grad_hidden.to(hidden_RND.dtype), grad_weight.to(weight_RVD.dtype))
        return losses_RN1.sum((-2, -1))


def _inputs(stack: Stack, tokens: torch.Tensor, changing: torch.Tensor) -> list[torch.Tensor]:
    """Return the inputs of the graph: state, what changes from step to step, dropout's draws, what never changes."""
    optimizer = stack.optimizer
    levels = stack.levels(tokens)
    return [
        *(stack.flat, optimizer.mean, optimizer.square, optimizer.clip, tokens, changing),
        *(() if levels is None else (levels.contiguous(),)),
        *stack.fixed.values(),
        *stack.buffers.values(),
    ]


def _step(stack: Stack, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return weights, moments, losses (R,) and gradient norms (R,) after one step, as a function of `_inputs`."""
    flat, mean, square, clip, tokens, changing, *rest = given
    architecture = stack.template.architecture
    masks = masks_of(rest.pop(0), architecture.dropout, flat.dtype) if architecture.dropout else None
    fixed = dict(zip((*stack.fixed, *stack.buffers), rest, strict=True))
    trained = {name: view.detach().requires_grad_() for name, view in stack.views(flat).items()}
    parameters = trained | {name: fixed[name] for name in stack.fixed}
    inputs, targets = stack.objective.split(tokens)
    with torch.autocast(stack.device.type, dtype=torch.bfloat16, enabled=stack.bfloat16):
        hidden = stack.hidden(parameters, {name: fixed[name] for name in stack.buffers}, inputs, masks)
        losses: torch.Tensor = _FusedHeadLosses.apply(  # type: ignore[no-untyped-call]
            hidden.flatten(1, -2), parameters["embedding.weight"], targets.flatten(1)
        )
    found = torch.autograd.grad(losses.sum(), list(trained.values()), materialize_grads=True)
    gradients = stack.flattened(dict(zip(trained, found, strict=True)))
    optimizer = AdamW(flat.detach().clone(), gradients, stack.trainers[0].memory.boundary, clip)
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
        super().__init__(stack)
        self.stack = stack
        constants = load_file(folder / CAPTURED, device=stack.device.type)
        self.captured = [tensor for _, tensor in sorted(constants.items())]
        self.runner = _runner(library(folder), stack.device)

    def changing(self, step: int) -> torch.Tensor:
        """Return the coefficients of a step on the device."""
        return self.stack.changing(step)

    def generators(self) -> list[torch.Generator]:
        """Return the generators that a step draws from."""
        return self.stack.generators()

    def step(self, step: int, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Do step `step` (0-based) on rows (R, B, …); return losses and gradient norms (R,)."""
        return self.compute(tokens, self.changing(step))

    @torch.no_grad()
    def compute(self, tokens: torch.Tensor, changing: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Do the device work of one step with the given coefficients."""
        stack = self.stack
        flat, mean, square, losses, norms = self.runner.run([*_inputs(stack, tokens, changing), *self.captured])
        stack.flat.copy_(flat)
        stack.optimizer.mean.copy_(mean)
        stack.optimizer.square.copy_(square)
        return losses, norms


def _runner(path: Path, device: torch.device) -> Any:
    """Load a compiled library for a device."""
    if device.type == "cuda":
        return Replay(path, device)
    from torch._C._aoti import AOTIModelContainerRunnerCpu

    return AOTIModelContainerRunnerCpu(str(path), 1)


def library(folder: Path) -> Path:
    """Return the compiled library in `folder`."""
    return next(folder.glob("*.compiled"))


def machine_code(folder: Path) -> str:
    """Return what decides the machine code of the library in `folder`: a digest of graph, compiler and processor."""
    return library(folder).name.split(".")[0]


def compiled_tier(stack: Stack, folder: Path, tokens: torch.Tensor) -> Tier:
    """Return the way of taking steps whose compiled library is in `folder`, captured on a GPU."""

    def build() -> Stepper:
        steps = Compiled(stack, folder)
        return steps if stack.device.type == "cpu" else Graphed(steps, tokens)

    return Tier("a compiled graph", build, TOLERANCES[stack.bfloat16])
