"""The whole chain on real code: proposed, gated in the sandbox, trained by the engine. What is proposed is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evolution_study import FRAMEWORKS, Search, files, search_spec, shell, standard
from evolution_study import gate as blind
from evomix.artifacts import digest_file, read_json, write_json
from evomix.evolution import freeze
from evomix.evolution.evaluate import evaluate
from evomix.gate import rescore
from evomix.gate.gate import gate
from evomix.settings import Framework, Proposing, Sandbox
from evomix.specs import Architecture, CorpusReference, Optimisation, SearchSpec
from evomix.training.contained import train_contained
from training_study import VOCABULARY, write_corpus

SHELL = {"vocabulary": VOCABULARY, "sequence_length": 16, "layers": 2}


def real_spec(folder: Path, framework: Framework, seeds: list[int], shard: str = "search") -> SearchSpec:
    """Return a spec whose trainings last a second."""
    stats = folder / "corpus" / "stats.json"
    if not stats.exists():
        write_corpus(stats.parent)
    shapes = {name: shell(width).model_copy(update=SHELL) for name, width in (("small", 16), ("large", 24))}
    return search_spec(
        framework,
        seeds,
        shard,
        corpus=CorpusReference(folder=str(stats.parent), digest=digest_file(stats)),
        architectures={name: Architecture.model_validate(item.model_dump()) for name, item in shapes.items()},
        optimisation=Optimisation(
            steps=20, batch_size=4, learning_rate=3e-3, warmup_steps=2, weight_decay=0.0, clip=1.0
        ),
        parameter_budget=1.6,
        flop_budget=4.0,
        margin=1.0,
        sandbox=Sandbox(),
    )


def judges(spec: SearchSpec) -> dict[str, Any]:
    return {"train": train_contained, "gate": lambda path: gate(path, spec.framework, search=spec)}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SearchSpec]:
    """A corpus, and the standard evaluated on it."""
    folder = tmp_path_factory.mktemp("ground")
    spec = real_spec(folder, "coefficient_dynamics", [7])
    source = standard("coefficient_dynamics")
    evaluate(spec, source, None, folder / "baseline", train=train_contained, gate=judges(spec)["gate"])
    return folder, spec


CANARIES = {
    "raises": ("return torch.exp(score_BHTT", "raise ValueError('broken on purpose')"),
    "leaks": ("weight_BHTT.sum(-1, keepdim=True)", "weight_BHTT.sum((-1, -2), keepdim=True)"),
    "wrong shape": ("return self.split_heads(self.key(x_BTD))", "return self.split_heads(self.key(x_BTD))[..., :-1]"),
    "not finite": ("weight_BHTT.sum(-1, keepdim=True)", "weight_BHTT.sum(-1, keepdim=True) * 0"),
    "unbounded": (
        "/ math.sqrt(self.head_width)",
        "* torch.exp(1000 * x_BTD.mean(-1)[..., None, :, None].abs() + 1000)",
    ),
    "reads files": ("import math", "import math\nimport os"),
}


@pytest.mark.slow
@pytest.mark.parametrize("canary", list(CANARIES))
def test_canaries_are_refused_with_a_reason(ground: tuple[Path, SearchSpec], canary: str, tmp_path: Path) -> None:
    """Bad candidates never score, and the search goes on with a record that says why."""
    folder, spec = ground
    old, new = CANARIES[canary]
    source = standard("coefficient_dynamics").read_text(encoding="utf-8")
    assert old in source
    if canary == "raises":
        line = next(line for line in source.split("\n") if line.strip().startswith(old))
        source = source.replace(line, f"        {new}")
    else:
        source = source.replace(old, new, 1)
    candidate = tmp_path / "candidate.py"
    candidate.write_text(source, encoding="utf-8")
    record = evaluate(spec, candidate, folder / "baseline" / "evaluation.json", tmp_path / "slot", **judges(spec))
    assert record["status"] in ("refused", "failed", "diverged")
    assert record["fitness"] is None
    assert record["reason"]
    assert str(tmp_path) not in record["reason"]


@pytest.mark.slow
def test_the_standard_trained_again_gains_exactly_nothing(ground: tuple[Path, SearchSpec], tmp_path: Path) -> None:
    folder, spec = ground
    baseline = folder / "baseline" / "evaluation.json"
    source = standard("coefficient_dynamics")
    record = evaluate(spec, source, baseline, tmp_path / "slot", **judges(spec))
    assert (record["status"], record["gain"], record["score"]) == ("accepted", 0.0, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("honest", [True, False])
def test_a_leak_that_the_gate_missed_is_found_in_a_finalist(tmp_path: Path, honest: bool) -> None:
    """Whatever acts on trained weights and real text alone is out of the gate's sight, not of the audit's."""
    spec = real_spec(tmp_path, "coefficient_dynamics", [21], "selection")
    source = standard("coefficient_dynamics").read_text(encoding="utf-8")
    line = "return self.split_heads(self.key(x_BTD))"
    assert line in source
    if not honest:
        source = source.replace(line, "return self.split_heads(self.key(x_BTD + x_BTD.roll(-1, -2)))")
    train = train_contained
    standards = judges(spec)["gate"]
    evaluate(spec, standard("coefficient_dynamics"), None, tmp_path / "baseline", train=train, gate=standards)
    finalists, baseline = tmp_path / "finalists.json", tmp_path / "baseline" / "evaluation.json"
    write_json(finalists, "finalists", {"reason": None, "finalists": [{"rank": 1, "source": source}]})
    folder = tmp_path / "finalist_1"
    freeze.rerank(spec, finalists, 1, baseline, folder, train=train, gate=blind, audit=rescore.recheck)
    record = read_json(folder / "evaluation.json", "evaluation")
    assert record["audit"]["passed"] is honest
    assert (record["status"], record["check"]) == (("accepted", None) if honest else ("refused", "rescore"))


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_real_search(tmp_path: Path, framework: Framework) -> None:
    """Grammar candidates pass the real gate and train for real; evaluating a slot again gives the same bytes."""
    search = Search(tmp_path / "search", framework, proposing=Proposing(wave_size=2, population=8))
    search.spec = real_spec(tmp_path, framework, [7])
    search.finalists = real_spec(tmp_path, framework, [21], "selection")
    search.train, search.gate = train_contained, judges(search.spec)["gate"]
    source = standard(framework)
    for name, spec in (("baseline", search.spec), ("finalists", search.finalists)):
        evaluate(spec, source, None, search.root / name, train=search.train, gate=search.gate)
    search.run(1)
    statuses = [outcome["status"] for outcome in search.state(1)["outcomes"]]
    assert "accepted" in statuses, [outcome["reason"] for outcome in search.state(1)["outcomes"]]
    before = {name: data for name, data in files(search.home).items() if "/training/" not in name}
    for path in sorted((search.home / "wave_1" / "slot_0").rglob("summary.json")):
        path.unlink()
    search.evaluate(1, [0])
    assert {name: data for name, data in files(search.home).items() if "/training/" not in name} == before
    assert search.finish(1, finalists=1)["found"] is True
