"""Commands of the gate and of the search."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from evomix import settings, specs
from evomix.artifacts import canonical_json, digest_file, write_json
from evomix.commands.options import (
    ArmName,
    Best,
    FrameworkName,
    Mechanism,
    Output,
    SearchSpecFile,
    Section,
    Stats,
    Target,
    Training,
    arm_of,
    framework_of,
)


def gate(file: Path, framework: FrameworkName) -> None:
    """Check a mechanism file and print one JSON record; exit status 0 accepts, 1 refuses."""
    from evomix.gate import gate as gates

    record = gates.gate(file, framework_of(framework))
    print(canonical_json(record), end="")
    if not record["accepted"]:
        sys.exit(1)


def certify(
    file: Path,
    output: Target,
    framework: FrameworkName,
    spec: Annotated[Path | None, typer.Option("--spec", help="search spec whose budgets and shells apply")] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="trained model of the spec's smallest size")] = None,
) -> None:
    """Write the certificate of a frozen variant, untrained or trained: the gate's record, accepted or not."""
    from evomix.gate import gate as gates

    search = specs.read_spec(spec, specs.SearchSpec) if spec else None
    record = gates.gate(file, framework_of(framework), search=search, weights=weights)
    write_json(output, "certificate", {"mechanism": digest_file(file), **record})


def rescore(run_specs: list[Path], output: Output) -> None:
    """Measure final losses of trained runs again, out of their code's reach, and compare with what they reported."""
    from evomix.gate import rescore as rescoring

    runs = [rescoring.recheck(path) for path in run_specs]
    write_json(output, "rescoring", {"runs": runs, "passed": all(run["passed"] for run in runs)})


def _judges(search: specs.SearchSpec) -> dict[str, Any]:
    """Return how candidates are gated and trained: both in the sandbox."""
    from evomix.evolution.trainings import trainer
    from evomix.gate import gate as gates

    return {"train": trainer(search), "gate": lambda path: gates.gate(path, search.framework, search=search)}


def write_search_spec(
    sizes: list[Path],
    framework: FrameworkName,
    role: Annotated[Path, typer.Option("--role", help="section file of the role")],
    judgement: Annotated[Path, typer.Option("--judgement", help="section file `judgement`")],
    training: Training,
    stats: Stats,
    best: Best,
    output: Output,
) -> None:
    """Write how candidates, the baseline or finalists are judged."""
    spec = specs.make_search_spec(
        framework=framework_of(framework),
        role=role,
        judgement=judgement,
        training=training,
        stats=stats,
        best=best,
        sizes={path.stem.removeprefix("size-"): path for path in sizes},
    )
    specs.write_spec(output, spec)


def evaluate(
    candidate: Path,
    spec: SearchSpecFile,
    output: Output,
    baseline: Annotated[Path | None, typer.Option("--baseline", help="evaluation of the standard")] = None,
) -> None:
    """Gate and train one candidate over all sizes and seeds of SPEC, and score it against the baseline."""
    from evomix.evolution import evaluate as evaluation

    search = specs.read_spec(spec, specs.SearchSpec)
    evaluation.evaluate(search, candidate, baseline, output.parent, **_judges(search))


def seed_population(
    mechanisms: list[Path],
    evaluations: Annotated[list[Path], typer.Option("--evaluation", help="evaluation of each mechanism, in order")],
    section: Section,
    framework: FrameworkName,
    arm: ArmName,
    output: Output,
) -> None:
    """Start an arm's database OUTPUT from evaluated mechanisms, the standard first; tell.json is written beside it."""
    from evomix.evolution import seed

    proposing = specs.load_section(section, settings.Proposing)
    pairs = list(zip(mechanisms, evaluations, strict=True))
    seed.seed_population(proposing, framework_of(framework), arm_of(arm), pairs, output)


def propose(
    population: Path,
    section: Section,
    spec: SearchSpecFile,
    arm: ArmName,
    wave: Annotated[int, typer.Option("--wave")],
    output: Output,
) -> None:
    """Propose the candidates of one wave into the folder OUTPUT."""
    from evomix.evolution import propose as proposals

    search = specs.read_spec(spec, specs.SearchSpec)
    proposals.propose(specs.load_section(section, settings.Proposing), search, arm_of(arm), wave, population, output)


def tell(
    evaluations: list[Path],
    section: Section,
    population: Annotated[Path, typer.Option("--population", help="population before the wave")],
    framework: FrameworkName,
    arm: ArmName,
    wave: Annotated[int, typer.Option("--wave")],
    output: Output,
) -> None:
    """Add one wave's evaluations to the database, in the order of the slots, as OUTPUT with tell.json beside it."""
    from evomix.evolution import tell as telling

    proposing = specs.load_section(section, settings.Proposing)
    telling.tell(proposing, framework_of(framework), arm_of(arm), wave, population, evaluations, output)


Tell = Annotated[Path, typer.Option("--tell", help="tell.json of the last wave")]


def summarise_search(evaluations: list[Path], section: Section, tell: Tell, output: Output) -> None:
    """Write history.parquet and lineage.{json,mmd,md} of an arm, in the folder of OUTPUT."""
    from evomix.evolution import lineage

    labels = specs.load_section(section, specs.PolicySection).labels()
    lineage.summarise(tell, evaluations, output.parent, **labels)


def shortlist(evaluations: list[Path], section: Section, spec: SearchSpecFile, tell: Tell, output: Output) -> None:
    """List the best accepted candidates of an arm."""
    from evomix.evolution import freeze

    count = specs.load_section(section, specs.FinalistsSection).finalists
    freeze.shortlist(specs.read_spec(spec, specs.SearchSpec), count, tell, evaluations, output)


def rerank(
    finalists: Path,
    rank: Annotated[int, typer.Option("--rank", help="from 1")],
    spec: SearchSpecFile,
    baseline: Annotated[Path, typer.Option("--baseline", help="the standard under the same spec")],
    output: Output,
) -> None:
    """Evaluate one finalist on fresh seeds and the selection shard, and audit its largest run on real text."""
    from evomix.evolution import freeze
    from evomix.gate.rescore import recheck

    search = specs.read_spec(spec, specs.SearchSpec)
    freeze.rerank(search, finalists, rank, baseline, output.parent, **_judges(search), audit=recheck)


def select(
    evaluations: list[Path],
    section: Section,
    finalists: Annotated[Path, typer.Option("--finalists", help="finalists.json")],
    spec: SearchSpecFile,
    standard: Annotated[Path, typer.Option("--standard", help="the standard's file")],
    mechanism: Mechanism,
    output: Output,
) -> None:
    """Freeze the best re-ranked finalist of an arm into MECHANISM, or the standard when nothing was found."""
    from evomix.evolution import freeze

    search = specs.read_spec(spec, specs.SearchSpec)
    labels = specs.load_section(section, specs.PolicySection).labels()
    freeze.freeze(search, finalists, evaluations, standard, output, mechanism, **labels)
