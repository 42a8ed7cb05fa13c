"""Re-measuring a score: the trusted loss is the true one, and the candidate sees hidden states only."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from evomix.artifacts import read_json
from evomix.errors import UserError
from evomix.gate import rescore as rescoring
from evomix.gate.causality import OTHER_BATCHES
from evomix.gate.remote import RemoteError, receive, send
from evomix.gate.rescore import RescoreError, rescore
from evomix.mechanisms import library
from evomix.model.transformer import Transformer
from evomix.specs import RunSpec
from evomix.training import engine, scoring
from programs.build import MM, program
from training_study import make_spec, write_corpus

SHORT = {"steps": 8, "every": 8, "warmup_steps": 2}
LEAK = program(
    MM,
    """
    def generators(self, x):
        x = x + 0.2 * x.roll(-1, -2)
        return self.split_heads(self.query(x)), self.split_heads(self.key(x))
    """,
)


@pytest.fixture(scope="module")
def stats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def untrained(stats: Path, folder: Path, source: str) -> tuple[RunSpec, Path]:
    """Write a mechanism and the weights of an untrained model; return its spec and the weights."""
    path = folder / "candidate.py"
    path.write_text(source, encoding="utf-8")
    spec = make_spec(stats, path, framework=MM)
    model = Transformer(spec.architecture, library.load(library.standard(MM), MM), spec.seed)
    save_file(model.state_dict(), folder / "model.safetensors")
    return spec, folder / "model.safetensors"


def test_the_gate_tries_the_batches_of_scoring() -> None:
    assert set(scoring.ROWS_PER_BATCH.values()) <= set(OTHER_BATCHES)


def test_the_trusted_loss_is_that_of_training_and_of_scoring(stats: Path, tmp_path: Path) -> None:
    spec = make_spec(stats, **SHORT)
    engine.train(spec, tmp_path)
    summary = read_json(tmp_path / "summary.json", "training")
    weights = tmp_path / "model.safetensors"
    found = rescore(spec, weights, "search", reported=summary["loss"])
    plain = scoring.score(spec, weights, "search")
    assert {key: found[key] for key in plain} == plain
    assert found["loss"] == pytest.approx(summary["loss"], abs=1e-6)
    assert found["passed"]
    assert [item["check"] for item in found["checks"]] == ["rescore.leak", "rescore.agreement"]
    assert found["layers"]["environment"] == "active"


def test_a_leak_and_a_false_report_are_found(stats: Path, tmp_path: Path) -> None:
    spec, weights = untrained(stats, tmp_path, LEAK)
    found = rescore(spec, weights, "search", reported=1.0)
    assert [item["passed"] for item in found["checks"]] == [False, False]
    assert found["checks"][0]["value"] > 5 * rescoring.UNCHANGED["float32"]
    assert not found["passed"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (program(MM, "def multiply(self, g, v):\n    return v[..., :-1, :]"), "answer of another shape"),
        (program(MM, top="open(CORPUS, 'rb')\n"), "Permission"),
        (program(MM, top="import socket\nsocket.socket()\n"), "Operation not permitted"),
    ],
)
def test_a_mixing_process_that_misbehaves_has_no_score(source: str, message: str, stats: Path, tmp_path: Path) -> None:
    """Also what the syntax gate would refuse: here nothing but the sandbox stands between the code and the corpus."""
    corpus = repr(str(stats.parent / "test.bin"))
    spec, weights = untrained(stats, tmp_path, source.replace("CORPUS", corpus))
    with pytest.raises(RescoreError, match=message):
        rescore(spec, weights, "search")


def test_wrong_inputs_cost_one_sentence(stats: Path, tmp_path: Path) -> None:
    spec, weights = untrained(stats, tmp_path, program(MM))
    link = tmp_path / "link.safetensors"
    link.symlink_to(weights)
    with pytest.raises(UserError, match="does not hold this run's weights"):
        rescore(spec, link, "search")
    with pytest.raises(UserError, match="does not hold this run's weights"):
        rescore(spec, tmp_path / "nothing", "search")
    Path(spec.mechanism.path).write_text("changed")
    with pytest.raises(UserError, match="has changed"):
        rescore(spec, weights, "search")


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
def test_tensors_travel_unchanged(kind: torch.dtype) -> None:
    pipe, tensor = io.BytesIO(), torch.randn(2, 3, 4).to(kind)
    send(pipe, 5, tensor, tensor.transpose(0, 1))
    pipe.seek(0)
    layer, (first, second) = receive(pipe, 100)
    assert layer == 5
    assert torch.equal(first, tensor)
    assert torch.equal(second, tensor.transpose(0, 1))
    with pytest.raises(EOFError):
        receive(pipe, 100)


@pytest.mark.parametrize(
    "line",
    [b"\n", b"{}\n", b"[]\n", b'{"layer": 0, "tensors": [["object", [1]]]}\n', b'{"layer": "x", "tensors": []}\n',
     b'{"layer": 0, "tensors": [["float32", [-1]]]}\n', b'{"layer": 0, "tensors": [["float32", [999999]]]}\n'],
)  # fmt: skip
def test_rubbish_from_the_other_side_is_an_error(line: bytes) -> None:
    with pytest.raises(RemoteError):
        receive(io.BytesIO(line), 100)
    with pytest.raises(EOFError):
        receive(io.BytesIO(b'{"layer": 0, "tensors": [["float32", [2]]]}\nabc'), 100)
