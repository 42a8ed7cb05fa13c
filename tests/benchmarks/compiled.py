"""What compiling the stacked step would gain on a CPU: python tests/benchmarks/compiled.py [--runs R] [--pairs N].

The whole step of R tiny runs (forward, backward, clipping, AdamW) is traced to one graph of operations, compiled by
inductor, and compared with runs one after another and with the eager stack. The engine has no such tier: inductor
starts a compiler, which the sandbox of every training forbids. The last column says after how many steps it is repaid.
"""

from __future__ import annotations

import argparse
import resource

import torch
from paired import machine, ratio
from stacking import BATCH, Loop, trainers
from torch.fx.experimental.proxy_tensor import make_fx

from evomix.mechanisms import library
from evomix.mechanisms.contract import Mechanism
from evomix.specs import Architecture
from evomix.training import head
from evomix.training.device import keep_memory
from evomix.training.ensemble import Stack
from evomix.training.optimizer import AdamW


def whole_cpu_seconds() -> float:
    """Return CPU seconds of this process and of the compilers that it started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


class Compiled:
    """The steps of a stack as one compiled graph; dropout is drawn outside."""

    def __init__(self, stack: Stack, tokens: torch.Tensor) -> None:
        self.stack = stack
        optimizer = stack.optimizer
        self.state = [stack.flat.clone(), optimizer.mean.clone(), optimizer.square.clone()]
        drawn = [stream.get_state() for stream in stack.streams]
        began = whole_cpu_seconds()
        # Inductor multiplies by oneDNN's operation with constant weights only; it has its own ways for the others.
        head._ONEDNN, available = False, head._ONEDNN
        graph = make_fx(lambda *given: self.compute(*given))(*self.state, *self.changing(0, tokens))
        head._ONEDNN = available
        self.operations = len(graph.graph.nodes)
        self.function = torch.compile(graph)
        for stream, state in zip(stack.streams, drawn, strict=True):
            stream.set_state(state)
        self.step(0, tokens)
        self.compile_seconds = whole_cpu_seconds() - began

    def changing(self, step: int, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Return what differs from step to step: tokens, coefficients, dropout masks."""
        width = self.stack.template.architecture.width
        masks = self.stack._masks(torch.Size([tokens.shape[1], tokens.shape[2] - 1, width]))
        return tokens, self.stack.changing(step), masks

    def compute(
        self,
        flat: torch.Tensor,
        mean: torch.Tensor,
        square: torch.Tensor,
        tokens: torch.Tensor,
        coefficients: torch.Tensor,
        masks: list[torch.Tensor],
    ) -> list[torch.Tensor]:
        """Return parameters, moments and losses after one step, as a function of its arguments."""
        stack, memory = self.stack, self.stack.trainers[0].memory
        flat = flat.detach().requires_grad_()
        shapes = {name: parameter.shape for name, parameter in stack.template.named_parameters()}
        stack.parameters = {
            name: flat[:, offset : offset + shapes[name].numel()].view(-1, *shapes[name])
            for name, offset in memory.offsets.items()
        }
        stack._masks = lambda shape: masks  # type: ignore[method-assign]
        hidden = stack._hidden(tokens[..., :-1]).unbind()
        del stack._masks
        parts = zip(hidden, stack.parameters["embedding.weight"].unbind(), tokens[..., 1:].unbind(), strict=True)
        losses = torch.stack([head.head_loss(*part) for part in parts])
        (gradients,) = torch.autograd.grad(losses.sum(), flat)
        optimizer = AdamW(flat.detach().clone(), gradients, memory.boundary, stack.optimizer.clip)
        optimizer.mean, optimizer.square = mean.clone(), square.clone()
        optimizer.step(coefficients)
        return [optimizer.parameters, optimizer.mean, optimizer.square, losses.detach()]

    def step(self, step: int, tokens: torch.Tensor) -> torch.Tensor:
        """Do one compiled step and return the losses (R,)."""
        with torch.no_grad():  # the graph holds its own backward pass
            *self.state, losses = self.function(*self.state, *self.changing(step, tokens))
        return losses


def row(name: str, mechanism: type[Mechanism], architecture: Architecture, runs: int, pairs: int) -> str:
    """Return one row of the table."""
    alone = trainers(mechanism, architecture, runs)
    tokens = torch.randint(architecture.vocabulary, (runs, BATCH, architecture.sequence_length + 1))
    eager = Stack(trainers(mechanism, architecture, runs))
    compiled = Compiled(Stack(trainers(mechanism, architecture, runs)), tokens)
    reference = Stack(trainers(mechanism, architecture, runs))
    reference.step(0, tokens)
    difference = (reference.step(1, tokens)[0] - compiled.step(1, tokens)).abs().max().item()

    def one_after_another() -> None:
        for run, trainer in enumerate(alone):
            trainer.step(0, tokens[run])

    stacked, plain, _ = ratio(one_after_another, lambda: eager.step(0, tokens), pairs)
    gain, _, ours = ratio(one_after_another, lambda: compiled.step(0, tokens), pairs)
    repaid = compiled.compile_seconds / max(plain - ours, 1e-9)
    return (
        f"| {name} | {compiled.operations} | {stacked:.2f} | {gain:.2f} | {1e3 * ours / runs:.2f} ms | "
        f"{difference:.0e} | {compiled.compile_seconds:.0f} s | {repaid:.0f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--loop", action="store_true", help="also softmax as a python loop over time")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    shape = {"width": 16, "layers": 2, "heads": 2, "vocabulary": 64, "sequence_length": 16, "dropout": 0.1}
    tiny = Architecture.model_validate(shape)
    standard = library.load(library.standard("matrix_mixer"))
    print(f"{machine()}; R = {arguments.runs}, medians of {arguments.pairs} interleaved pairs\n")
    print(
        "| mechanism | graph nodes | alone / stacked | alone / compiled | per run | difference | compile CPU | "
        "repaid after |\n|---|---|---|---|---|---|---|---|"
    )
    print(row("softmax d16 T16 V64", standard, tiny, arguments.runs, arguments.pairs), flush=True)
    larger = tiny.model_copy(update={"width": 32, "sequence_length": 32, "vocabulary": 256})
    print(row("softmax d32 T32 V256", standard, larger, arguments.runs, arguments.pairs), flush=True)
    if arguments.loop:
        print(row("loop over T, d16 T16 V64", Loop, tiny, arguments.runs, arguments.pairs), flush=True)


if __name__ == "__main__":
    main()
