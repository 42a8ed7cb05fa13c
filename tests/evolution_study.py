"""A small search on real files: propose, evaluate, tell as the workflow runs them, with trainings that cost nothing.

A training's loss is a law in ln N plus an effect and noise that depend on the candidate's text and the seed, so that
searches have something to find, in milliseconds. Everything else is the real thing.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evomix.artifacts import read_json
from evomix.evolution import evaluate, freeze, lineage, propose, seed, tell
from evomix.evolution.identity import normalised
from evomix.model.sizes import non_embedding_parameters
from evomix.settings import Arm, Framework, Llm, Proposing, Sandbox
from evomix.specs import (
    Architecture,
    CorpusReference,
    Execution,
    Measurement,
    Optimisation,
    RunSpec,
    SearchSpec,
)

MECHANISMS = Path(evaluate.__file__).resolve().parents[1] / "mechanisms"
FRAMEWORKS: tuple[Framework, ...] = ("coefficient_dynamics", "test_time_regression", "matrix_mixer")


def standard(framework: Framework) -> Path:
    """Return the standard's file."""
    return MECHANISMS / framework / "softmax.py"


def shell(width: int) -> Architecture:
    """Return a tiny shell."""
    return Architecture(width=width, layers=1, heads=2, vocabulary=300, sequence_length=16, dropout=0.0)


def search_spec(framework: Framework, seeds: list[int], shard: Any = "search", **changes: Any) -> SearchSpec:
    """Return the spec of a search over two tiny sizes."""
    spec = SearchSpec(
        framework=framework,
        corpus=CorpusReference(folder="corpus", digest="none"),
        architectures={"small": shell(16), "large": shell(32)},
        optimisation=Optimisation(
            steps=10, batch_size=4, learning_rate=1e-3, warmup_steps=2, weight_decay=0.0, clip=1.0
        ),
        measurement=Measurement(shard=shard, every=5, rows=4),
        execution=Execution(device="cpu", precision="float32", checkpoint_every=100),
        seeds=seeds,
        fitness="slope",
        margin=0.05,
        parameter_budget=1.2,
        flop_budget=3.0,
        sandbox=Sandbox(),
    )
    return spec.model_copy(update=changes)


def unit(*names: object) -> float:
    """Return a number in [0, 1) that is a pure function of the names."""
    return int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:6], "big") / 2**48


def train(spec: RunSpec, folder: Path) -> dict[str, Any]:
    """Return the summary of a training: a law, an effect of the text that grows with size, and seed noise."""
    text = normalised(Path(spec.mechanism.path).read_text(encoding="utf-8"))
    count = non_embedding_parameters(spec.architecture.width, spec.architecture.layers)
    effect = 0.02 * (unit(text) - 0.5) * math.log(count)
    noise = 0.004 * (unit(text, spec.size, spec.seed) - 0.5)
    loss = 4.0 - 0.1 * math.log(count) - effect + noise
    summary: dict[str, Any] = {"status": "finished", "reason": None, "loss": loss}
    return {**summary, "parameters": {"non_embedding": count}, "flops_per_token": 6.0 * count + len(text)}


def gate(path: Path) -> dict[str, Any]:
    """Accept everything: what the syntax gate lets through is judged elsewhere."""
    return {"accepted": True, "checks": []}


@dataclass
class Search:
    """One arm of a search in a folder laid out as the workflow's."""

    folder: Path
    framework: Framework = "coefficient_dynamics"
    arm: Arm = "random"
    proposing: Proposing = field(
        default_factory=lambda: Proposing(wave_size=3, population=8, patience=100, max_invalid=50, llm=Llm())
    )
    train: Any = train
    gate: Any = gate
    fitness: str = "slope"

    def __post_init__(self) -> None:
        self.spec = search_spec(self.framework, [7], fitness=self.fitness)
        self.finalists = search_spec(self.framework, [21, 22], "selection", fitness=self.fitness)
        self.root = self.folder / self.framework
        self.home = self.root / self.arm
        self.evaluations: list[Path] = []
        if not (self.root / "baseline" / "evaluation.json").exists():
            repeats = search_spec(self.framework, [7, 8, 9, 10], fitness=self.fitness)
            for name, spec in (("baseline", repeats), ("finalists", self.finalists)):
                source = standard(self.framework)
                evaluate.evaluate(spec, source, None, self.root / name, train=train, gate=gate)
        pair = (standard(self.framework), self.root / "baseline" / "evaluation.json")
        seed.seed_population(self.proposing, self.framework, self.arm, [pair], self.population(0))

    def population(self, wave: int) -> Path:
        """Return the population folder after a wave."""
        return self.home / f"wave_{wave}" / "population"

    def state(self, wave: int) -> dict[str, Any]:
        """Return tell.json after a wave."""
        return read_json(self.home / f"wave_{wave}" / "tell.json", "tell")

    def proposal(self, wave: int, slot: int) -> dict[str, Any]:
        """Return a slot's proposal."""
        return read_json(self.home / f"wave_{wave}" / f"slot_{slot}" / "proposal.json", "proposal")

    def propose(self, wave: int) -> None:
        """Propose a wave."""
        folder = self.home / f"wave_{wave}"
        propose.propose(self.proposing, self.spec, self.arm, wave, self.population(wave - 1), folder)

    def evaluate(self, wave: int, order: list[int] | None = None) -> list[Path]:
        """Evaluate a wave's slots in any order; return the evaluations in that order."""
        baseline, paths = self.root / "baseline" / "evaluation.json", []
        for slot in order or range(self.proposing.wave_size):
            folder = self.home / f"wave_{wave}" / f"slot_{slot}"
            evaluate.evaluate(self.spec, folder / "candidate.py", baseline, folder, train=self.train, gate=self.gate)
            paths.append(folder / "evaluation.json")
        return paths

    def run(self, waves: int, *, first: int = 1, order: list[int] | None = None) -> Search:
        """Run waves `first` … `waves`."""
        for wave in range(first, waves + 1):
            self.propose(wave)
            paths = self.evaluate(wave, order)
            tell.tell(
                self.proposing, self.framework, self.arm, wave, self.population(wave - 1), paths, self.population(wave)
            )
            self.evaluations += paths
        return self

    def finish(self, waves: int, finalists: int = 2) -> dict[str, Any]:
        """Summarise, shortlist, re-rank and freeze; return selection.json."""
        last, home = self.home / f"wave_{waves}" / "tell.json", self.home
        lineage.summarise(last, self.evaluations, home)
        freeze.shortlist(self.spec, finalists, last, self.evaluations, home / "finalists.json")
        again = []
        for rank in range(1, finalists + 1):
            baseline, folder = self.root / "finalists" / "evaluation.json", home / f"finalist_{rank}"
            freeze.rerank(
                self.finalists, home / "finalists.json", rank, baseline, folder, train=self.train, gate=self.gate
            )
            again.append(folder / "evaluation.json")
        freeze.freeze(
            self.finalists,
            home / "finalists.json",
            again,
            standard(self.framework),
            home / "selection.json",
            home / "selected.py",
        )
        return read_json(home / "selection.json", "selection")


def files(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder by its relative path, the commit in provenance blocks aside."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    commit = re.compile(rb'"commit": "[^"]*"')
    return {str(path.relative_to(folder)): commit.sub(b'"commit": ""', path.read_bytes()) for path in paths}


def judged(tmp_path: Path, **judges: Any) -> dict[str, Any]:
    """Evaluate the standard's text as a candidate under misbehaving judges."""
    search = Search(tmp_path / "search")
    candidate = tmp_path / "candidate.py"
    candidate.write_text(standard("coefficient_dynamics").read_text())
    baseline = search.root / "baseline" / "evaluation.json"
    return evaluate.evaluate(
        search.spec, candidate, baseline, tmp_path / "slot", **{"train": train, "gate": gate, **judges}
    )
