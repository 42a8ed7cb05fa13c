"""Many runs of one mechanism in one process: their weights stacked, every operation launched once for all.

Runs that differ in seed, learning rate, warm-up or weight decay can share launches through `torch.func`: the model is
called under `vmap` over stacked parameters, each run keeps its own data order, dropout stream, clipping and schedule.
A tiny model costs mostly launches, so R stacked runs take less than R times as long. A mechanism may refuse to be
stacked, or worse, be silently wrong; a probe compares the first steps with runs alone, and anything but equality means
one run after another.

Whether stacking pays follows from measured step times (`step_times`).

Shapes: R runs, n parameters, B batch, T tokens.
"""

from __future__ import annotations

import logging
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.func import functional_call, vmap

from evomix.errors import UserError
from evomix.fingerprint import fingerprint
from evomix.model.dropout import draw_masks
from evomix.model.transformer import Transformer
from evomix.specs import RunSpec
from evomix.training import checkpoint
from evomix.training.book import Book
from evomix.training.compiled import Compiled, compiled_tier, machine_code, trace
from evomix.training.device import send
from evomix.training.engine import Session, identity, prepare, train
from evomix.training.finished import finished_summary
from evomix.training.graph import capture, climb
from evomix.training.groups import compilable, unlike
from evomix.training.inputs import Batches
from evomix.training.optimizer import AdamW, coefficients
from evomix.training.preemption import watch_termination
from evomix.training.step_times import Choice, Work, choose
from evomix.training.step_times_measured import MACHINES
from evomix.training.trainer import Trainer

logger = logging.getLogger(__name__)

PROBE_STEPS = 3
PROBE_TOLERANCE = 2e-4
"""Steps compared before stacking, and the largest relative difference in loss or gradient norm taken for rounding."""


class Stack:
    """R trainers as one: takes over their weights, buffers and dropout streams, with fresh moments."""

    tier = "stacked, eager"

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

    def masks(self, tokens: torch.Tensor) -> torch.Tensor | None:
        """Return masks (R, sites, B, T, D) of the dropout sites for rows (R, B, …); each run draws its own as alone."""
        architecture = self.template.architecture
        if architecture.dropout == 0:
            return None
        shape = torch.Size([*self.objective.split(tokens)[0].shape[1:], architecture.width])
        return draw_masks(self.template.dropout_sites, shape, architecture.dropout, self.streams, self.flat.dtype)

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


def probe(trainers: list[Trainer], batches: list[Batches]) -> str | None:
    """Compare the first steps of the stacked runs with the runs alone; return why they must not be stacked, or None.

    Moves the trainers; build fresh ones to train.
    """
    tokens = [torch.stack([batch.read(step) for batch in batches]) for step in range(PROBE_STEPS)]
    try:
        stack = Stack(trainers)
        streams = [trainer.dropout.get_state() for trainer in trainers]
        stacked = [stack.step(step, tokens[step]) for step in range(PROBE_STEPS)]
        for run, trainer in enumerate(trainers):
            trainer.dropout.set_state(streams[run])
            for step in range(PROBE_STEPS):
                alone = trainer.step(step, tokens[step][run])
                for ours, theirs in zip(stacked[step], alone, strict=True):
                    if not torch.isclose(ours[run], theirs, rtol=PROBE_TOLERANCE, atol=0):
                        return f"step {step + 1} differs from the run alone ({ours[run].item():g}, {theirs.item():g})"
    except Exception as error:  # what a mechanism may do under vmap, or after it, is without limit
        return f"it cannot be stacked ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    return None


def train_many(
    specs: list[RunSpec], folders: list[Path], compiled: Path | None = None, origin: str = ""
) -> list[dict[str, Any]]:
    """Train runs into their folders, stacked where that pays and is exact, else one after another; return summaries.

    Same results as `train` of each up to rounding. Finished runs are kept, an interrupted group resumes. `compiled` and
    `origin` are as for `train_stacked`. Raises as `train` does.
    """
    why = train_stacked(specs, folders, compiled, origin)
    return [train(spec, folder, why) for spec, folder in zip(specs, folders, strict=True)]


def train_stacked(specs: list[RunSpec], folders: list[Path], compiled: Path | None = None, origin: str = "") -> str:
    """Train runs into their folders as one stack if that pays and is exact; return why, or why not.

    `compiled` is the folder of these runs' compiled step, used where it equals the eager one; `origin` says how it came
    about, or why there is none.
    """
    group = _group(specs, folders)
    return unlike([spec for spec, _ in group]) or _train_stacked(group, compiled, origin)


def trace_many(specs: list[RunSpec], folders: list[Path], output: Path) -> None:
    """Write the traced step of the stack that `train_stacked` would train to `output`; UserError when there is none."""
    group = _group(specs, folders)
    if reason := unlike([spec for spec, _ in group]):
        raise UserError(reason)
    with torch.random.fork_rng():
        prepared, _, choice = _prepare_stack(group, compiled=compilable(group[0][0]))
        if choice.way != "compiled":
            raise UserError(f"not repaid by {choice.sentence}")
        tokens = torch.stack([feed.read(0) for _, feed in prepared])
        try:
            trace(Stack([trainer for trainer, _ in prepared]), tokens, output)
        except UserError:
            raise
        except Exception as error:  # what a mechanism may do while it is traced is without limit
            raise UserError(f"it cannot be traced ({type(error).__name__}: {error})".splitlines()[0]) from None


def _group(specs: list[RunSpec], folders: list[Path]) -> list[tuple[RunSpec, Path]]:
    """Return the runs that would be one stack: the unfinished ones."""
    runs = [(spec, Path(folder)) for spec, folder in zip(specs, folders, strict=True)]
    pending = [run for run in runs if finished_summary(*run) is None]
    # A group killed while it wrote its results is finished as that group: fewer runs would round differently.
    return runs if pending and _was_stacked(runs) else pending


def _captured_alone(trainer: Trainer, batches: Batches) -> bool:
    """Return whether a run alone has a faster way than eager steps, which stacked eager steps would not match."""
    return capture(trainer, [batches.read(step) for step in range(PROBE_STEPS)]) is not trainer


def _kind(runs: int) -> str:
    """Name the way of computing in checkpoints."""
    return f"stack of {runs}, {fingerprint(__name__)}"


def _was_stacked(runs: list[tuple[RunSpec, Path]]) -> bool:
    """Return whether there is a checkpoint of exactly these runs as a stack, compiled or not."""
    stored = checkpoint.load(runs[0][1] / "checkpoint")
    if stored is None:
        return False
    found = stored[1]["identity"]
    kind = str(found["kind"])
    return found == identity([spec for spec, _ in runs], kind) and kind.startswith(_kind(len(runs)))


def _choice(runs: list[tuple[RunSpec, Path]], trainer: Trainer, work: Work, *, compiled: bool) -> Choice:
    """Return how runs of which `trainer` is the first are to be carried out."""
    steps = runs[0][0].optimisation.steps
    return choose(MACHINES[trainer.device.type], work, len(runs), steps, compilable=compiled)


def _prepare_stack(
    runs: list[tuple[RunSpec, Path]], *, compiled: bool
) -> tuple[list[tuple[Trainer, Batches]], Work, Choice]:
    """Prepare runs: their trainers and batches, the work of a step of one, how they are to be carried out.

    Only the first run is prepared when that is one after another.
    """
    trainer, batches, work = prepare(runs[0][0])
    choice = _choice(runs, trainer, work, compiled=compiled)
    if choice.way == "alone":
        return [(trainer, batches)], work, choice
    return [(trainer, batches), *(prepare(spec)[:2] for spec, _ in runs[1:])], work, choice


def _train_stacked(runs: list[tuple[RunSpec, Path]], compiled: Path | None, origin: str) -> str:
    """Train all runs as one stack, or return why without a trace when that does not pay or is not exact."""
    began = time.monotonic()
    with watch_termination() as stop, torch.random.fork_rng():
        path = runs[0][0].mechanism.path
        prepared, work, choice = _prepare_stack(runs, compiled=compiled is not None)
        why = choice.sentence
        if choice.way == "alone":
            logger.info("one after another: %s", why)
            return why
        reason = probe([item[0] for item in prepared], [item[1] for item in prepared])
        if reason is not None:
            logger.warning("%s: %s; its runs go one after another", path, reason)
            return reason
        fresh = [prepare(spec)[:2] for spec, _ in runs]
        stack = Stack([item[0] for item in fresh])
        books = [Book(spec, folder) for spec, folder in runs]
        feeds = [item[1] for item in fresh]
        tokens = [torch.stack([feed.read(step) for feed in feeds]) for step in range(PROBE_STEPS)]
        stepper = capture(stack, tokens) if compiled is None else climb([compiled_tier(stack, compiled)], stack, tokens)
        if stepper is stack and _captured_alone(*prepared[0]):
            logger.warning("%s: runs alone can be captured, their stack cannot; they go one after another", path)
            return "runs alone can be captured, their stack cannot"
        kind = _kind(len(runs))
        if compiled is not None and isinstance(stepper, Compiled):
            kind = f"{kind}, {machine_code(compiled)}"
        elif compiled is not None:
            origin += ", but it does not equal eager steps"
            if _choice(runs, prepared[0][0], work, compiled=False).way == "alone":
                return f"{origin}: {why}"
        why += f"; {origin}" if origin else ""
        logger.info("%s: %s", stepper.tier, why)
        Session(books, stepper, feeds, kind, work, began, why).train(stop)
        return why
