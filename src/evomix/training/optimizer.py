"""AdamW with gradient clipping over flat memory: all parameters are views of one tensor, all gradients of another.

A small model has a hundred parameters and costs more in launches than in arithmetic. Flat memory makes zeroing, the
gradient norm, clipping and the update a dozen operations in all, whatever the mechanism looks like. (`torch.optim`
would also import the compiler: a second of every process.)

Decoupled weight decay applies to matrices only: never to embeddings, biases, LayerNorms and other 1-d parameters.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from evomix.specs import Optimisation
from evomix.training.schedule import learning_rate

BETAS = (0.9, 0.95)
EPSILON = 1e-8
_ALIGNMENT = 16
"""Every view starts at a multiple of 16 elements, as a separate allocation would (kernels may depend on alignment)."""


def is_decayed(model: nn.Module) -> dict[str, bool]:
    """Return for every trainable parameter's name whether weight decay applies to it."""
    undecayed = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.LayerNorm)
        for parameter in module.parameters(recurse=False)
    }
    return {
        name: parameter.ndim >= 2 and id(parameter) not in undecayed
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


class FlatMemory:
    """Moves a model's trainable parameters and their gradients into one tensor each: decayed part first, then the rest.

    `parameters` and `gradients` are (n,) tensors; elements from `boundary` on are spared from weight decay. The model's
    parameters become views, so it must not be moved or recast afterwards. Gradients of unused parameters are zero.
    """

    def __init__(self, model: nn.Module) -> None:
        decayed = is_decayed(model)
        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.offsets: dict[str, int] = {}
        end = self.boundary = 0
        for name in sorted(named, key=lambda name: not decayed[name]):
            self.offsets[name] = end
            end += -(-named[name].numel() // _ALIGNMENT) * _ALIGNMENT
            self.boundary = end if decayed[name] else self.boundary
        like = next(iter(named.values()))
        self.parameters = torch.zeros(end, dtype=like.dtype, device=like.device)
        self.gradients = torch.zeros_like(self.parameters)
        for name, offset in self.offsets.items():
            parameter = named[name]
            part = slice(offset, offset + parameter.numel())
            self.parameters[part].copy_(parameter.detach().flatten())
            parameter.data = self.parameters[part].view(parameter.shape)
            parameter.grad = self.gradients[part].view(parameter.shape)


def coefficients(optimisation: Optimisation, step: int) -> list[float]:
    """Return what changes from step to step (0-based).

    Learning rate over first bias correction, square root of second bias correction, factor of decoupled weight decay.
    """
    rate = learning_rate(optimisation, step)
    first, second = (1 - beta ** (step + 1) for beta in BETAS)
    return [rate / first, math.sqrt(second), 1 - rate * optimisation.weight_decay]


class AdamW:
    """AdamW (Loshchilov and Hutter 2019) with clipping of the global gradient norm, on flat memory of shape (…, n).

    A leading dimension holds independent runs: each has its own norm, clipping and coefficients.
    """

    def __init__(self, parameters: torch.Tensor, gradients: torch.Tensor, boundary: int, clip: torch.Tensor) -> None:
        """Take flat parameters and gradients (…, n), the end of the decayed part, and the norm limits (…, 1)."""
        self.parameters, self.gradients, self.clip = parameters, gradients, clip
        self.decayed = parameters[..., :boundary]
        self.mean = torch.zeros_like(parameters)
        self.square = torch.zeros_like(parameters)

    def step(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Clip, update with `coefficients` (…, 3), and return the norms (…, 1) before clipping."""
        gradients = self.gradients
        # `vector_norm` adds the squares one after another on a CPU: 5e-4 off for a million gradients in float32.
        norm = gradients.square().sum(-1, keepdim=True).sqrt()
        gradients.mul_(torch.clamp(self.clip / (norm + 1e-6), max=1.0))
        scaled_rate, correction, decay = (coefficients[..., column, None] for column in range(3))
        self.decayed.mul_(decay)
        self.mean.lerp_(gradients, 1 - BETAS[0])
        self.square.mul_(BETAS[1]).addcmul_(gradients, gradients, value=1 - BETAS[1])
        update = self.square.sqrt().div_(correction).add_(EPSILON)
        torch.div(self.mean, update, out=update)
        self.parameters.addcmul_(update, scaled_rate, value=-1)
        return norm

    def state(self) -> dict[str, torch.Tensor]:
        """Return the moments as named tensors."""
        return {"mean": self.mean, "square": self.square}
