"""The engine computes what a plain loop computes: same loss curve from the same seed, dropout on."""

from __future__ import annotations

import pytest
import torch

from benchmarks.plain_loop import PlainTransformer, train
from evomix.mechanisms import library
from evomix.model.dropout import draw_masks
from evomix.model.transformer import Transformer
from evomix.specs import Execution, Optimisation
from evomix.streams import torch_stream
from evomix.training.trainer import Trainer
from training_study import architecture

SHAPE = architecture(width=24, layers=3, heads=3, vocabulary=307, sequence_length=20)


def engine_curve(
    framework: str, dtype: torch.dtype, optimisation: Optimisation, batches: list[torch.Tensor], precision: str
) -> tuple[list[float], Transformer]:
    mechanism = library.load(library.standard(framework))
    model = Transformer(SHAPE, mechanism, seed=1).to(dtype)
    execution = Execution.model_validate({"device": "cpu", "precision": precision, "checkpoint_every": 10})
    trainer = Trainer(model, optimisation, execution, seed=1)
    return [trainer.step(step, tokens)[0].item() for step, tokens in enumerate(batches)], model


def plain_curve(dtype: torch.dtype, optimisation: Optimisation, batches: list[torch.Tensor]) -> list[float]:
    mechanism = library.load(library.standard("coefficient_dynamics"))
    model = PlainTransformer(SHAPE)
    model.load_state_dict(Transformer(SHAPE, mechanism, seed=1).state_dict())
    stream = torch_stream(1, "dropout")

    def dropout(x: torch.Tensor) -> torch.Tensor:
        # The plain loop also runs the last token, whose outputs are sliced away: its mask is of no consequence.
        shape = torch.Size([x.shape[0], x.shape[1] - 1, x.shape[2]])
        kept = draw_masks(1, shape, SHAPE.dropout, [stream], x.dtype)[0, 0]
        return x * torch.cat([kept, torch.ones_like(x[:, :1])], 1)

    return train(model.to(dtype), optimisation, batches, dropout)


def make_batches(steps: int) -> list[torch.Tensor]:
    stream = torch_stream(2, "tokens")
    return [torch.randint(SHAPE.vocabulary, (4, 21), generator=stream) for _ in range(8)] * (steps // 8)


@pytest.mark.parametrize(
    ("framework", "dtype", "steps", "tolerance"),
    [
        ("coefficient_dynamics", torch.float64, 80, 1e-9),
        ("test_time_regression", torch.float64, 80, 1e-9),
        ("matrix_mixer", torch.float64, 80, 1e-9),
        ("matrix_mixer", torch.float32, 200, 1e-4),
    ],
)
def test_engine_equals_plain_loop(framework: str, dtype: torch.dtype, steps: int, tolerance: float) -> None:
    optimisation = Optimisation(
        steps=steps, batch_size=4, learning_rate=2e-3, warmup_steps=10, weight_decay=0.1, clip=0.5
    )
    batches = make_batches(steps)
    curve, _ = engine_curve(framework, dtype, optimisation, batches, "float32")
    plain = plain_curve(dtype, optimisation, batches)
    assert curve == pytest.approx(plain, abs=tolerance, rel=0)
    assert plain[-1] < plain[0] - 0.3  # something was learned, so the optimiser took part


def test_bfloat16_stays_close() -> None:
    optimisation = Optimisation(steps=80, batch_size=4, learning_rate=2e-3, warmup_steps=10, weight_decay=0, clip=0.5)
    batches = make_batches(80)
    exact, _ = engine_curve("matrix_mixer", torch.float32, optimisation, batches, "float32")
    rounded, model = engine_curve("matrix_mixer", torch.float32, optimisation, batches, "bfloat16")
    assert rounded != exact
    assert rounded == pytest.approx(exact, abs=0.03)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
