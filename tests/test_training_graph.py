"""The captured tier on a machine without a GPU: it stands aside, and its comparison tells equal from different."""

from __future__ import annotations

import pytest
import torch

from evomix.mechanisms import library
from evomix.model.transformer import Transformer
from evomix.specs import Execution, Optimisation
from evomix.training.graph import capture, compare
from evomix.training.trainer import Trainer
from training_study import architecture


def build(rate: float = 1e-2) -> Trainer:
    optimisation = Optimisation(steps=10, batch_size=2, learning_rate=rate, warmup_steps=0, weight_decay=0.1, clip=1.0)
    execution = Execution.model_validate({"device": "cpu", "precision": "float32", "checkpoint_every": 10})
    return Trainer(
        Transformer(architecture(), library.load(library.standard("matrix_mixer")), 1), optimisation, execution, 1
    )


@pytest.fixture
def tokens() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(61, (2, 17), generator=generator) for _ in range(2)]


def test_without_a_gpu_nothing_is_captured(tokens: list[torch.Tensor]) -> None:
    trainer = build()
    before = {key: value.clone() for key, value in trainer.tensors().items()}
    assert capture(trainer, tokens) is trainer
    assert all(torch.equal(value, before[key]) for key, value in trainer.tensors().items())


def test_comparison_tells_equal_from_different(tokens: list[torch.Tensor]) -> None:
    first, second = build(), build()
    state = {key: value.clone() for key, value in first.tensors().items()}
    assert compare(first, second, tokens, state) is None
    assert compare(first, build(rate=2e-1), tokens, state) == "step 2 differs from the eager one"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_captured_steps_equal_eager_ones(tokens: list[torch.Tensor]) -> None:
    optimisation = Optimisation(steps=10, batch_size=2, learning_rate=1e-2, warmup_steps=0, weight_decay=0.1, clip=1.0)
    execution = Execution.model_validate({"device": "cuda", "precision": "float32", "checkpoint_every": 10})
    model = Transformer(architecture(), library.load(library.standard("matrix_mixer")), 1).cuda()
    trainer = Trainer(model, optimisation, execution, 1)
    assert capture(trainer, [batch.cuda() for batch in tokens]) is not trainer
