"""R trainers as one: weights stacked in flat memory, every operation launched once for all under `vmap`.

Shapes: R runs, n parameters, B batch, T tokens, D width.
"""

from __future__ import annotations

import warnings

import torch
from torch.func import functional_call, vmap

from evomix.model.dropout import draw_levels, masks_of
from evomix.model.transformer import Transformer
from evomix.training.device import send
from evomix.training.optimizer import AdamW, coefficients
from evomix.training.trainer import Trainer


class Stack:
    """R trainers as one: takes over their weights, buffers and dropout streams, with fresh moments."""

    tier = "stacked, eager"
    stacked = True

    def __init__(self, trainers: list[Trainer]) -> None:
        first = trainers[0]
        # Slices of flat memory are neither dense nor contiguous; gradients are added in place all the same.
        warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout contract")
        self.trainers, self.template = trainers, first.model
        self.optimisations = [trainer.optimisation for trainer in trainers]
        self.bfloat16, self.device, self.objective = first.bfloat16, first.device, first.objective
        self.streams = [trainer.dropout for trainer in trainers]
        memory = first.memory
        self.flat = torch.stack([trainer.memory.parameters for trainer in trainers])
        self.gradients = torch.zeros_like(self.flat)
        clip = self.flat.new_tensor([[optimisation.clip] for optimisation in self.optimisations])
        self.optimizer = AdamW(self.flat, self.gradients, memory.boundary, clip)
        self.fixed = {
            name: torch.stack([dict(trainer.model.named_parameters())[name] for trainer in trainers]).detach()
            for name, _ in self.template.named_parameters()
            if name not in memory.offsets
        }
        trained = {name: view.detach().requires_grad_() for name, view in self.views(self.flat).items()}
        for name, view in self.views(self.gradients).items():
            trained[name].grad = view
        self.parameters = trained | self.fixed
        self.buffers = {
            name: torch.stack([dict(trainer.model.named_buffers())[name] for trainer in trainers])
            for name, _ in self.template.named_buffers()
        }

    def views(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the trained parameters (or what belongs to them) as views of flat memory (R, n)."""
        shapes = {name: parameter.shape for name, parameter in self.template.named_parameters()}
        return {
            name: flat[:, offset : offset + shapes[name].numel()].view(-1, *shapes[name])
            for name, offset in self.trainers[0].memory.offsets.items()
        }

    def flattened(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return stacked tensors by parameter's name in the order of flat memory (R, n), zeros between them."""
        parts, end = [], 0
        for name, offset in self.trainers[0].memory.offsets.items():
            flat = tensors[name].flatten(1)
            parts += [flat.new_zeros(len(flat), offset - end), flat]
            end = offset + flat.shape[1]
        parts.append(parts[0].new_zeros(len(parts[0]), self.flat.shape[1] - end))
        return torch.cat(parts, 1)

    def levels(self, tokens: torch.Tensor) -> torch.Tensor | None:
        """Return what dropout draws (R, sites, B, T, D) for rows (R, B, …); each run draws its own as alone."""
        architecture = self.template.architecture
        if architecture.dropout == 0:
            return None
        shape = torch.Size([*self.objective.split(tokens)[0].shape[1:], architecture.width])
        return draw_levels(self.template.dropout_sites, shape, self.streams)

    def masks(self, tokens: torch.Tensor) -> torch.Tensor | None:
        """Return masks (R, sites, B, T, D) of the dropout sites for rows (R, B, …)."""
        levels = self.levels(tokens)
        return None if levels is None else masks_of(levels, self.template.architecture.dropout, self.flat.dtype)

    def hidden(
        self,
        parameters: dict[str, torch.Tensor],
        buffers: dict[str, torch.Tensor],
        inputs_RBT: torch.Tensor,
        masks: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the hidden states (R, B, T, D) of stacked parameters and buffers."""

        def call(
            parameters: dict[str, torch.Tensor],
            buffers: dict[str, torch.Tensor],
            tokens_BT: torch.Tensor,
            masks: list[torch.Tensor],
        ) -> torch.Tensor:
            arguments = (tokens_BT, iter(masks)) if masks else (tokens_BT,)
            hidden: torch.Tensor = functional_call(self.template, (parameters, buffers), arguments)
            return hidden

        sites = [] if masks is None else list(masks.unbind(1))
        hidden: torch.Tensor = vmap(call)(parameters, buffers, inputs_RBT, sites)
        return hidden

    def step(self, step: int, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Do step `step` (0-based) on rows (R, B, …); return losses and gradient norms (R,) without waiting."""
        return self.compute(tokens, self.changing(step))

    def changing(self, step: int) -> torch.Tensor:
        """Return the coefficients (R, 3) of step `step` on the device."""
        values = [coefficients(optimisation, step) for optimisation in self.optimisations]
        return send(torch.tensor(values, dtype=self.flat.dtype), self.device)

    def generators(self) -> list[torch.Generator]:
        """Return the generators that a step draws from."""
        return self.streams

    def compute(self, tokens: torch.Tensor, changing: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Do the device work of one step with the given coefficients."""
        self.gradients.zero_()
        inputs_RBT, targets_RBT = self.objective.split(tokens)
        masks = self.masks(tokens)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            hidden_RBTD = self.hidden(self.parameters, self.buffers, inputs_RBT, masks)
            losses = self.objective.losses(hidden_RBTD, self.parameters["embedding.weight"], targets_RBT)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        return losses.detach(), self.optimizer.step(changing).squeeze(-1)

    @torch.no_grad()
    def model_of(self, run: int) -> Transformer:
        """Return the template with the weights and buffers of run `run`, good until the next call."""
        self.trainers[0].memory.parameters.copy_(self.flat[run])
        for name, buffer in self.template.named_buffers():
            buffer.copy_(self.buffers[name][run])
        return self.template

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return every tensor the future depends on."""
        state = {"flat": self.flat, "generator.global": torch.get_rng_state()}
        state |= {f"buffer.{name}": buffer for name, buffer in self.buffers.items()}
        state |= {f"optimizer.{name}": moment for name, moment in self.optimizer.state().items()}
        state |= {f"generator.{run}": stream.get_state() for run, stream in enumerate(self.streams)}
        return state

    @torch.no_grad()
    def load_tensors(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `tensors` returned."""
        self.flat.copy_(state["flat"])
        for name, buffer in self.buffers.items():
            buffer.copy_(state[f"buffer.{name}"])
        for name, moment in self.optimizer.state().items():
            moment.copy_(state[f"optimizer.{name}"])
        for run, stream in enumerate(self.streams):
            stream.set_state(state[f"generator.{run}"])
        torch.set_rng_state(state["generator.global"])
