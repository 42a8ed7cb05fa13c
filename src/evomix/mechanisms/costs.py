"""Cost of code as executed: floating-point operations counted by torch while one sequence runs.

The analytic `flops` of gallery members is checked against this count; evolved mechanisms, whose own statement nobody
checks, are charged by this count alone. Torch's own counter (FlopCounterMode) knows matrix products, convolutions and
the GPU's fused attention: FFT, cumulative sums, solves, softmax and fused attention on a CPU cost nothing there. Here
they do, and `Operations.unseen` says how much torch's counter misses.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from evomix.mechanisms.contract import Mechanism, build_mechanism

_FREE = (
    "view", "reshape", "expand", "transpose", "permute", "slice", "select", "unsqueeze", "squeeze", "t.", "alias",
    "detach", "clone", "copy", "_to_copy", "empty", "zeros", "ones", "full", "arange", "stack", "cat", "index",
    "gather",
    "diagonal", "split", "unbind", "as_strided", "where", "constant_pad", "lift_fresh", "tril", "triu", "flip", "roll",
)  # fmt: skip
"""Operators that move or make numbers without arithmetic."""


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of one call: all of them, those that torch's counter sees, the others by operator."""

    executed: float
    seen: float
    unseen: dict[str, float]


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Add up operations: exact formulas for matrix products, solves and FFTs, one per output element for the rest."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = 0.0
        self.unseen: defaultdict[str, float] = defaultdict(float)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from importing its compiler (a second) to guard a mode that never meets it."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        name = str(packet).removeprefix("aten.")
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        inputs = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
        if packet in flop_registry:
            self.seen += flop_registry[packet](*args, **(kwargs or {}), out_val=result)
        else:
            self._count(name, inputs, outputs, args)
        return result

    def _count(self, name: str, inputs: list[Tensor], outputs: list[Tensor], args: Any) -> None:
        """Count an operator that torch's counter does not know."""
        if name.startswith("linalg_solve_triangular"):
            count: float = inputs[1].numel() * inputs[0].shape[-1]
        elif name.startswith(
            ("_linalg_solve", "linalg_solve", "linalg_cholesky", "cholesky", "linalg_lu", "linalg_inv")
        ):
            size = inputs[0].shape[-1]
            count = inputs[0].numel() * size * 2 / 3 + sum(2 * size * other.numel() for other in inputs[1:])
        elif name.startswith("_fft"):
            real = outputs[0] if name.startswith("_fft_c2r") else inputs[0]
            length = real.shape[args[1][-1]]
            count = (5.0 if real.is_complex() else 2.5) * real.numel() * math.log2(max(2, length))
        elif name.startswith("_scaled_dot_product"):  # a mask skips nothing: the products are charged in full
            count = sdpa_flop_count(*(leaf.shape for leaf in inputs[:3]))  # type: ignore[no-untyped-call]
        elif not name.startswith(_FREE):
            count = sum(leaf.numel() * (6 if leaf.is_complex() else 1) for leaf in outputs)
        else:
            return
        self.unseen[name] += count


def count_operations(call: Callable[[], object]) -> Operations:
    """Return the floating-point operations of `call`, run once without gradients.

    Matrix products count two per multiply-add, element-wise operators one per element (six when complex), transforms
    of length n 2.5 n log₂ n (5 when complex), fused attention its two products, moves nothing.
    """
    with torch.no_grad(), _Counter() as counter:
        call()
    return Operations(counter.seen + sum(counter.unseen.values()), counter.seen, dict(counter.unseen))


def measured_flops(mechanism: Mechanism, tokens: int) -> int:
    """Return the forward floating-point operations that one sequence of `tokens` tokens really costs."""
    parameter = next(mechanism.parameters(), torch.empty(0))
    x = torch.ones(tokens, mechanism.width, device=parameter.device, dtype=torch.float32)
    v = torch.ones(mechanism.heads, tokens, mechanism.head_width, device=parameter.device, dtype=torch.float32)
    return int(count_operations(lambda: mechanism(x.to(parameter.dtype), v.to(parameter.dtype))).executed)


def cost(mechanism_type: type[Mechanism], *, width: int, heads: int, tokens: int) -> dict[str, float]:
    """Return one mechanism's `parameters` and its `flops_per_token`, as stated and as measured (`executed`)."""
    mechanism = build_mechanism(mechanism_type, width, heads, 0, "cost")
    return {
        "parameters": parameter_count(mechanism),
        "flops_per_token": mechanism.flops(tokens) / tokens,
        "executed_flops_per_token": measured_flops(mechanism, tokens) / tokens,
    }


def parameter_count(mechanism: Mechanism) -> int:
    """Return the number of trainable parameters of the mechanism (the shell's value and output maps excluded)."""
    return sum(parameter.numel() for parameter in mechanism.parameters())
