"""One run's moving parts: model, optimiser, dropout stream; one step; and everything a checkpoint must carry."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from evomix.errors import UserError
from evomix.model.flops import forward_flops
from evomix.model.transformer import Transformer
from evomix.specs import Execution, Optimisation
from evomix.streams import torch_stream
from evomix.training.device import send
from evomix.training.objective import TEXT, Objective
from evomix.training.optimizer import AdamW, FlatMemory, coefficients
from evomix.training.step_times import Work


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations as they reach the backend (on a GPU each is about one kernel launch) and what they write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = self.elements = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from importing its compiler (a second) to guard a mode that never meets it."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        if not func.is_view:
            made = result if isinstance(result, tuple | list) else (result,)
            self.elements += sum(each.numel() for each in made if isinstance(each, torch.Tensor))
        return result


class Trainer:
    """Trains `model` step by step; exact to the bit when stopped and resumed through `tensors` and `load_tensors`."""

    tier = "eager"
    stacked = False

    def __init__(
        self,
        model: Transformer,
        optimisation: Optimisation,
        execution: Execution,
        seed: int,
        objective: Objective = TEXT,
    ) -> None:
        self.model = model
        self.objective = objective
        self.optimisation = optimisation
        self.device = model.embedding.weight.device
        self.memory = memory = FlatMemory(model)
        clip = memory.parameters.new_full((1,), optimisation.clip)
        self.optimizer = AdamW(memory.parameters, memory.gradients, memory.boundary, clip)
        self.bfloat16 = execution.precision == "bfloat16"
        self.dropout = torch_stream(seed, "dropout", device=self.device.type)

    def gradients(self, tokens: torch.Tensor) -> torch.Tensor:
        """Fill the gradients for a batch of rows (B, …) and return its mean loss (0-d, on the device)."""
        self.memory.gradients.zero_()
        inputs, targets = self.objective.split(tokens)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            hidden = self.model.hidden(inputs, self.dropout)
            loss = self.objective.loss(hidden, self.model.embedding.weight, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def step(self, step: int, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Do step `step` (0-based) on rows (B, …); return loss and gradient norm (0-d tensors) without waiting."""
        return self.compute(tokens, self.changing(step))

    def changing(self, step: int) -> torch.Tensor:
        """Return the coefficients (3,) of step `step` on the device."""
        values = torch.tensor(coefficients(self.optimisation, step), dtype=self.memory.parameters.dtype)
        return send(values, self.device)

    def compute(self, tokens: torch.Tensor, changing: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Do the device work of one step with the given coefficients."""
        loss = self.gradients(tokens)
        return loss, self.optimizer.step(changing).squeeze()

    def generators(self) -> list[torch.Generator]:
        """Return the generators that a step draws from."""
        return [self.dropout]

    def model_of(self, run: int) -> Transformer:
        """Return the model of the only run."""
        return self.model

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return every tensor the future depends on: weights, buffers, moments and all generator states."""
        state: dict[str, torch.Tensor] = {}
        state |= {f"model.{name}": tensor.detach() for name, tensor in self.model.named_parameters()}
        state |= {f"buffer.{name}": tensor for name, tensor in self.model.named_buffers()}
        state |= {f"optimizer.{name}": tensor for name, tensor in self.optimizer.state().items()}
        state["generator.dropout"] = self.dropout.get_state()
        state["generator.global"] = torch.get_rng_state()
        if self.device.type == "cuda":
            state["generator.cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    @torch.no_grad()
    def load_tensors(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `tensors` returned."""
        for name, parameter in self.model.named_parameters():
            parameter.copy_(state[f"model.{name}"])
        for name, buffer in self.model.named_buffers():
            buffer.copy_(state[f"buffer.{name}"])
        for name, moment in self.optimizer.state().items():
            moment.copy_(state[f"optimizer.{name}"])
        self.dropout.set_state(state["generator.dropout"])
        torch.set_rng_state(state["generator.global"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["generator.cuda"], self.device)

    def work(self, tokens: torch.Tensor) -> Work:
        """Return what one forward and backward pass asks for; leaves weights, buffers and streams as they were."""
        before = {key: value.clone() for key, value in self.tensors().items()}
        names = set(self.model.state_dict())
        counter = _Counter()
        with counter:
            self.gradients(tokens)
        if late := set(self.model.state_dict()) - names:
            raise UserError(
                f"the mechanism makes {sorted(late)[0]} while it runs; make parameters and buffers in __init__"
            )
        self.load_tensors(before)
        rows = tokens.shape[0] * self.model.architecture.sequence_length
        return Work(counter.operations, counter.elements, 3.0 * forward_flops(self.model)["total"] * rows)
