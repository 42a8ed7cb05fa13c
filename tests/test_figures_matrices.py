"""Mixing matrices: what the sandbox returns for a trained variant, and the picture drawn from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from evomix.artifacts import digest_file, write_text
from evomix.corpus import tokenizer
from evomix.errors import UserError
from evomix.mechanisms import library
from evomix.model.materialise import materialise
from evomix.model.transformer import Transformer
from evomix.settings import Sandbox
from evomix.specs import (
    Architecture,
    CorpusReference,
    Execution,
    Measurement,
    MechanismReference,
    Optimisation,
    RunSpec,
    write_spec,
)

TEXT = "Once there was a small dog. The dog saw a red ball and ran after it. "


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an (untrained) run of the standard matrix mixer, a tokenizer and documents."""
    folder = tmp_path_factory.mktemp("run")
    write_text(folder / "documents.jsonl", json.dumps({"text": TEXT}) + "\n")
    tokenizer.train(folder / "documents.jsonl", 270, folder / "tokenizer.json")
    mechanism = folder / "standard.py"
    write_text(mechanism, library.program(library.standard("matrix_mixer")))
    spec = RunSpec(
        framework="matrix_mixer",
        variant="standard",
        size="tiny",
        seed=42,
        mechanism=MechanismReference(path=str(mechanism), digest=digest_file(mechanism)),
        corpus=CorpusReference(folder=str(folder), digest="0" * 64),
        architecture=Architecture(width=16, layers=2, heads=2, vocabulary=270, sequence_length=24, dropout=0.1),
        optimisation=Optimisation(
            steps=2, batch_size=2, learning_rate=1e-3, warmup_steps=0, weight_decay=0.0, clip=1.0
        ),
        measurement=Measurement(shard="test", every=1, rows=2),
        execution=Execution(device="cpu", precision="float32", checkpoint_every=10),
        sandbox=Sandbox(),
    )
    write_spec(folder / "spec.json", spec)
    model = Transformer(spec.architecture, library.load(mechanism), 42)
    save_file(model.state_dict(), folder / "model.safetensors")
    return folder


def make(run: Path, output: Path) -> None:
    materialise(run / "spec.json", run / "model.safetensors", run / "tokenizer.json", run / "documents.jsonl", output)


def test_matrices_of_softmax_are_causal_row_stochastic_and_named_by_tokens(run: Path, tmp_path: Path) -> None:
    make(run, tmp_path / "standard.safetensors")
    found = load_file(tmp_path / "standard.safetensors")["matrices"]
    assert found.shape == (2, 2, 24, 24)
    assert torch.allclose(found.sum(-1), torch.ones(2, 2, 24), atol=1e-5)
    assert torch.equal(found, found.tril())
    with safe_open(tmp_path / "standard.safetensors", "pt") as stream:
        words = json.loads(stream.metadata()["tokens"])
    assert len(words) == 24
    assert TEXT.startswith("".join(words))


@pytest.mark.slow
def test_same_run_gives_same_bytes(run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        make(run, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.slow
def test_code_that_raises_in_the_sandbox_is_one_sentence(run: Path, tmp_path: Path) -> None:
    weights = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, weights)
    with pytest.raises(UserError, match=r"mixing matrices of .*standard.py could not be made"):
        materialise(run / "spec.json", weights, run / "tokenizer.json", run / "documents.jsonl", tmp_path / "out")
