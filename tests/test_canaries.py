"""What is proposed is what is trained: known effects move the fitness, and in the right direction.

Real corpus, gate, sandbox and training at a tiny size. One candidate is the standard in other words, one averages
uniformly, one is an expert member that learns faster.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evomix.corpus import documents, tokenizer, tokens
from evomix.evolution.evaluate import evaluate
from evomix.gate.gate import gate
from evomix.mechanisms.library import gallery, program, standard
from evomix.settings import Corpus, Sandbox
from evomix.specs import Architecture, Execution, Measurement, Optimisation, SearchSpec, corpus_reference
from evomix.training.contained import train_contained

pytestmark = pytest.mark.slow

BODY = "        return torch.exp(score_BHTT - score_BHTT.amax(-1, keepdim=True).detach())\n"
UNIFORM = "        return torch.ones_like(score_BHTT) + 0.0 * score_BHTT\n"


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> SearchSpec:
    """How candidates are judged here: two tiny sizes, 150 steps, on the story grammar."""
    folder = tmp_path_factory.mktemp("corpus")
    corpus = Corpus(source="grammar", stories=1_000, vocabulary=320, sequence_length=32)
    documents.collect(corpus, folder / "documents")
    tokenizer.train(folder / "documents/train.jsonl", corpus.vocabulary, folder / "tokenizer.json")
    for shard in documents.SHARDS:
        tokens.encode(folder / "tokenizer.json", folder / f"documents/{shard}.jsonl", folder / f"{shard}.bin")
    tokens.summarise(folder, folder / "stats.json")
    shells = {
        name: Architecture(width=width, layers=1, heads=2, vocabulary=320, sequence_length=32, dropout=0.1)
        for name, width in (("s", 16), ("m", 24))
    }
    return SearchSpec(
        framework="coefficient_dynamics",
        corpus=corpus_reference(folder / "stats.json"),
        architectures=shells,
        optimisation=Optimisation(
            steps=150, batch_size=16, learning_rate=0.01, warmup_steps=15, weight_decay=0.0, clip=1.0
        ),
        measurement=Measurement(shard="search", every=150, rows=16),
        execution=Execution(device="cpu", precision="float32", checkpoint_every=1_000),
        seeds=[7],
        fitness="gain",
        margin=0.01,
        parameter_budget=1.5,
        flop_budget=3.0,
        sandbox=Sandbox(),
    )


def test_known_effects_move_the_fitness_in_both_directions(search: SearchSpec, tmp_path: Path) -> None:
    text = standard("coefficient_dynamics").read_text()
    assert BODY in text, "the standard's readout is no longer what this test edits"

    def judge(name: str, source: str, baseline: Path | None) -> dict[str, Any]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "candidate.py").write_text(source)
        return evaluate(
            search,
            folder / "candidate.py",
            baseline,
            folder,
            train=train_contained,
            gate=lambda path: gate(path, search.framework, search=search),
        )

    judge("standard", text, None)
    baseline = tmp_path / "standard/evaluation.json"
    results = {
        "same": judge("same", text.replace("* self.width**2\n", "* self.width * self.width\n"), baseline),
        "better": judge("better", program(gallery("coefficient_dynamics")["gated_delta"]), baseline),
        "uniform": judge("uniform", text.replace(BODY, UNIFORM), baseline),
    }
    gains = {name: result["gain"] for name, result in results.items()}
    assert all(result["status"] == "accepted" for result in results.values()), json.dumps(results, indent=1)
    assert gains["same"] == 0.0
    assert gains["better"] > 0.02
    assert gains["uniform"] < -0.005
