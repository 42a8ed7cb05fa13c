"""AdamW with gradient clipping over flat memory: all parameters are views of one tensor, all gradients of another.

A small model has a hundred parameters and costs more in launches than in arithmetic. Flat memory makes zeroing, the
gradient norm and clipping one operation each and the update one per group, whatever the mechanism looks like.
Decoupled weight decay applies to matrices only: never to embeddings, biases, LayerNorms and other 1-d parameters.
"""

from __future__ import annotations

import torch
from torch import nn

from evomix.specs import Optimisation

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

    The embedding is undecayed. `parameters` and `gradients` are the (n,) tensors; `parts` are the two parameters that
    an optimiser updates. Gradients of unused parameters are zero.
    """

    def __init__(self, model: nn.Module) -> None:
        decayed = is_decayed(model)
        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        ordered = sorted(named, key=lambda name: not decayed[name])
        offsets, end, boundary = {}, 0, 0
        for name in ordered:
            offsets[name] = end
            end += -(-named[name].numel() // _ALIGNMENT) * _ALIGNMENT
            boundary = end if decayed[name] else boundary
        like = model.get_parameter(ordered[0])
        self.parameters = torch.zeros(end, dtype=like.dtype, device=like.device)
        self.gradients = torch.zeros_like(self.parameters)
        for name, offset in offsets.items():
            parameter = named[name]
            part = slice(offset, offset + parameter.numel())
            self.parameters[part].copy_(parameter.detach().flatten())
            parameter.data = self.parameters[part].view(parameter.shape)
            parameter.grad = self.gradients[part].view(parameter.shape)
        self.parts: list[nn.Parameter] = []
        for part in (slice(0, boundary), slice(boundary, end)):
            flat = nn.Parameter(self.parameters[part])
            flat.grad = self.gradients[part]
            self.parts.append(flat)


class Optimizer:
    """AdamW of a whole model in flat memory. Once made, the model's parameters must not be moved or recast."""

    def __init__(self, model: nn.Module, optimisation: Optimisation) -> None:
        self.memory = FlatMemory(model)
        self.clip = optimisation.clip
        decayed, rest = self.memory.parts
        groups = [
            {"params": [decayed], "weight_decay": optimisation.weight_decay},
            {"params": [rest], "weight_decay": 0.0},
        ]
        capturable = self.memory.parameters.is_cuda
        # A learning rate in a tensor can change between replays of a captured graph.
        rate = torch.zeros((), device=self.memory.parameters.device) if capturable else 0.0
        self.adamw = torch.optim.AdamW(groups, lr=rate, betas=BETAS, eps=EPSILON, fused=True, capturable=capturable)

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the coming update."""
        for group in self.adamw.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def zero_gradients(self) -> None:
        """Set all gradients to zero, in place."""
        self.memory.gradients.zero_()

    def step(self) -> torch.Tensor:
        """Clip the gradients to the global norm limit, update, and return the norm before clipping (a 0-d tensor)."""
        gradients = self.memory.gradients
        norm: torch.Tensor = torch.linalg.vector_norm(gradients)
        gradients.mul_(torch.clamp(self.clip / (norm + 1e-6), max=1.0))
        self.adamw.step()
        return norm

    def state(self) -> dict[str, torch.Tensor]:
        """Return the moments and step counts as named tensors (empty before the first update)."""
        return {
            f"{part}.{key}": value
            for part, parameter in enumerate(self.memory.parts)
            for key, value in self.adamw.state[parameter].items()
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state` returned."""
        for part, parameter in enumerate(self.memory.parts):
            prefix = f"{part}."
            values = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
            device = parameter.device
            self.adamw.state[parameter] = {
                key: value.clone().to(device) if value.ndim or device.type == "cuda" else value.clone()
                for key, value in values.items()
            }
