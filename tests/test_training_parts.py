"""Parts of the engine, each against an independent computation: head, optimiser, schedule, record."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from evomix.corpus.tokens import IGNORED
from evomix.mechanisms import library
from evomix.model.transformer import Transformer
from evomix.specs import Optimisation
from evomix.training import head
from evomix.training.objective import ANSWERS
from evomix.training.optimizer import AdamW, FlatMemory, coefficients, is_decayed
from evomix.training.record import CURVE_ROWS, Record
from evomix.training.schedule import learning_rate
from training_study import architecture

OPTIMISATION = Optimisation(steps=100, batch_size=4, learning_rate=1e-2, warmup_steps=10, weight_decay=0.1, clip=0.5)


@pytest.mark.parametrize(
    ("rows_per_chunk", "dtype", "tolerance"),
    [(7, torch.float64, 1e-13), (40, torch.float64, 1e-13), (1000, torch.float64, 1e-13), (7, torch.float32, 2e-5)],
)
def test_head_loss_and_gradients_equal_cross_entropy(
    rows_per_chunk: int, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "_CHUNK_ELEMENTS", {"cpu": 53 * rows_per_chunk})
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(5, 8, 12, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(53, 12, dtype=torch.float64, generator=generator).requires_grad_()
    targets = torch.randint(53, (5, 8), generator=generator)
    expected = F.cross_entropy((hidden @ weight.T).flatten(0, 1), targets.flatten())
    gradients = torch.autograd.grad(3 * expected, [hidden, weight])
    per_row = F.cross_entropy((hidden @ weight.T).flatten(0, 1), targets.flatten(), reduction="none").view(5, 8).mean(1)
    ours = [tensor.detach().to(dtype).requires_grad_() for tensor in (hidden, weight)]
    loss = head.head_loss(*ours, targets)
    assert loss.item() == pytest.approx(expected.item(), abs=tolerance)
    for gradient, theirs in zip(torch.autograd.grad(3 * loss, ours), gradients, strict=True):
        torch.testing.assert_close(gradient.double(), theirs, atol=tolerance, rtol=0)
    torch.testing.assert_close(head.row_losses(*ours, targets), per_row.detach(), atol=tolerance, rtol=0)


@pytest.mark.parametrize("elements", [8 * 40 * 53, 8 * 40 * 53 - 1], ids=["at once", "one by one"])
def test_head_losses_of_stacked_runs_are_those_of_each(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "_CHUNK_ELEMENTS", {"cpu": elements})
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(3, 5, 8, 12, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(3, 53, 12, dtype=torch.float64, generator=generator).requires_grad_()
    targets = torch.randint(53, (3, 5, 8), generator=generator)
    scale = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64)
    each = [head.head_loss(hidden[run], weight[run], targets[run]) for run in range(3)]
    expected = torch.autograd.grad((torch.stack(each) * scale).sum(), [hidden, weight])
    losses = head.head_losses(hidden, weight, targets)
    torch.testing.assert_close(losses, torch.stack(each), atol=1e-13, rtol=0)
    for gradient, theirs in zip(torch.autograd.grad((losses * scale).sum(), [hidden, weight]), expected, strict=True):
        torch.testing.assert_close(gradient, theirs, atol=1e-13, rtol=0)


def test_head_loss_is_right_where_probabilities_underflow() -> None:
    hidden, weight = torch.tensor([[[200.0]]]), torch.tensor([[1.0], [-1.0], [0.5]])
    assert head.head_loss(hidden, weight, torch.tensor([[1]])).item() == pytest.approx(400.0)
    assert math.isnan(head.head_loss(hidden * math.nan, weight, torch.tensor([[1]])).item())


def test_weight_decay_spares_embeddings_norms_biases_and_vectors() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 4)
            self.norm = nn.LayerNorm((3, 4))
            self.embedding = nn.Embedding(5, 3)
            self.gates = nn.Parameter(torch.zeros(4))
            self.map = nn.Parameter(torch.zeros(4, 3))
            self.frozen = nn.Parameter(torch.zeros(4, 3), requires_grad=False)

    assert {name for name, decayed in is_decayed(Odd()).items() if decayed} == {"linear.weight", "map"}
    assert "frozen" not in is_decayed(Odd())


def test_optimizer_equals_torch_with_clipping() -> None:
    models = [Transformer(architecture(), library.load(library.standard("matrix_mixer")), 1).double() for _ in range(2)]
    memory = FlatMemory(models[0])
    clip = torch.tensor([0.5], dtype=torch.float64)
    optimizer = AdamW(memory.parameters, memory.gradients, memory.boundary, clip)
    groups = [
        {
            "params": [p for n, p in models[1].named_parameters() if is_decayed(models[1])[n] is decayed],
            "weight_decay": w,
        }
        for decayed, w in ((True, 0.1), (False, 0.0))
    ]
    reference = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    for step in range(5):
        tokens = torch.randint(61, (3, 16), generator=torch.Generator().manual_seed(step))
        memory.gradients.zero_()
        reference.zero_grad()
        for model in models:
            (model(tokens) * torch.linspace(-1, 1, 16, dtype=torch.float64)).sum().backward()
        for group in reference.param_groups:
            group["lr"] = learning_rate(OPTIMISATION, step)
        changing = torch.tensor(coefficients(OPTIMISATION, step), dtype=torch.float64)
        norms = [optimizer.step(changing), nn.utils.clip_grad_norm_(models[1].parameters(), 0.5)]
        reference.step()
        assert norms[0].item() == pytest.approx(norms[1].item(), rel=1e-12)
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=0)


def test_schedule_warms_up_from_above_zero_and_ends_at_a_tenth() -> None:
    rates = [learning_rate(OPTIMISATION, step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-3)
    assert rates[9] == rates[10] == pytest.approx(1e-2)
    assert rates[-1] == pytest.approx(1e-3)
    assert rates[55] == pytest.approx(1e-2 * (0.1 + 0.45 * (1 + math.cos(math.pi * 45 / 89))))
    assert all(a >= b for a, b in pairwise(rates[10:]))
    short = OPTIMISATION.model_copy(update={"steps": 5})
    assert [learning_rate(short, step) for step in range(5)] == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3, 5e-3])
    none = OPTIMISATION.model_copy(update={"warmup_steps": 0})
    assert learning_rate(none, 0) == pytest.approx(1e-2)


def fill(record: Record, losses: list[float]) -> Record:
    record.add_evaluation(4.0)
    for loss in losses:
        record.add_step(loss, 1.0, 1e-3)
    return record


def test_record_ends_at_the_first_value_that_is_not_finite() -> None:
    record = fill(Record(100), [4.0, 3.0, math.nan, 2.0])
    assert record.diverged
    assert (record.finished, record.reason) == (3, "loss was not finite at step 3")
    record = Record(100)
    record.add_step(1.0, math.inf, 1e-3)
    assert record.reason == "gradient norm was not finite at step 1"
    record = Record(100)
    record.add_evaluation(math.nan)
    assert record.diverged


def test_record_tells_a_runaway_from_a_spike() -> None:
    calm = [3.0 + 0.01 * math.sin(7 * step) for step in range(150)]
    spike = fill(Record(300), [*calm, 9.0, 9.0, *calm])
    assert not spike.diverged
    assert spike.spikes == 1
    assert fill(Record(300), calm + calm).spikes == 0
    lost = fill(Record(300), [*calm, *[9.0] * 100])
    assert lost.diverged
    assert lost.finished < 200
    assert "averaged" in str(lost.reason)


def test_record_is_the_same_after_a_checkpoint() -> None:
    losses = [4 - 0.01 * step + (step % 7) / 10 for step in range(300)]
    whole = fill(Record(5_000), losses)
    part = fill(Record(5_000), losses[:151])
    part = Record.from_state(part.state())
    for loss in losses[151:]:
        part.add_step(loss, 1.0, 1e-3)
    assert part == whole


def test_curve_of_100k_steps_is_small_and_flat(tmp_path: Path) -> None:
    steps = 100_000
    record = Record(steps)
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand(steps, 2, generator=generator).tolist()
    record.add_evaluation(9.0)
    for step in range(steps):
        record.add_step(2 + noise[step][0], noise[step][1], 1e-3 * (1 - step / steps))
        if (step + 1) % 1_000 == 0:
            record.add_evaluation(2.5 + noise[step][0] / 10)
    record.write_curve(tmp_path / "curve.parquet")
    curve = pd.read_parquet(tmp_path / "curve.parquet")
    assert (tmp_path / "curve.parquet").stat().st_size < 200_000
    assert len(curve) == CURVE_ROWS + 1
    assert curve["held_out_loss"].notna().sum() == 101
    assert curve["step"].iloc[-1] == steps
    assert curve["train_loss"].iloc[1] == pytest.approx(sum(2 + row[0] for row in noise[:50]) / 50)


def test_steps_to_ninety_percent_interpolates() -> None:
    record = Record(40)
    for step, loss in ((0, 5.0), (10, 3.0), (20, 1.2), (30, 1.0), (40, 1.0)):
        record.finished = step
        record.add_evaluation(loss)
    assert record.steps_to(0.9) == pytest.approx(10 + 10 * (3.0 - 1.4) / 1.8)
    assert Record(40).steps_to(0.9) is None
    record.add_evaluation(6.0)
    assert record.steps_to(0.9) is None


def test_answer_losses_of_stacked_runs_are_those_of_each() -> None:
    """With targets that are not scored, of which runs have different numbers; logits are float32."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(3, 5, 8, 12, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(3, 53, 12, dtype=torch.float64, generator=generator).requires_grad_()
    targets = torch.randint(53, (3, 5, 8), generator=generator)
    targets[1, :, :6], targets[2, 0] = IGNORED, IGNORED
    each = torch.stack([ANSWERS.loss(hidden[run], weight[run], targets[run]) for run in range(3)])
    losses = ANSWERS.losses(hidden, weight, targets)
    torch.testing.assert_close(losses, each, atol=2e-6, rtol=0)
    expected = torch.autograd.grad(each.sum(), [hidden, weight])
    for gradient, theirs in zip(torch.autograd.grad(losses.sum(), [hidden, weight]), expected, strict=True):
        torch.testing.assert_close(gradient, theirs, atol=2e-6, rtol=0)


def test_deterministic_operations_are_asked_for_without_the_compiler() -> None:
    """Importing it costs a second in every process, and leaves a folder."""
    text = """
        import sys, torch
        from evomix.training.device import open_device
        torch.cuda.is_available = lambda: True
        open_device("cuda", True)
        print(torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
        print("torch._inductor" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "False"]
