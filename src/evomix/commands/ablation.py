"""Commands that take apart what evolved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evomix import specs
from evomix.commands.options import (
    Best,
    FrameworkName,
    Output,
    SearchSpecFile,
    Section,
    SizeFile,
    Stats,
    Target,
    Training,
    framework_of,
)

Folder = Annotated[Path, typer.Option("--variants", help="folder of the ablated mechanisms")]


def split_edits(
    reference: Path,
    candidate: Path,
    output: Target,
    variants: Folder,
    section: Section,
    spec: SearchSpecFile,
    framework: FrameworkName,
) -> None:
    """Split CANDIDATE − REFERENCE into edits and freeze a gated mechanism without each, and with each alone."""
    from evomix.ablation import split
    from evomix.ablation.section import EditsSection
    from evomix.gate import gate as gates

    rules, search = specs.load_section(section, EditsSection), specs.read_spec(spec, specs.SearchSpec)
    smallest = min(search.architectures.values(), key=lambda item: (item.width, item.layers))
    name = framework_of(framework)
    split.split(
        reference,
        candidate,
        name,
        variants,
        output,
        most=rules.edits,
        add_alone=rules.add_alone,
        gate=lambda path: gates.gate(path, name, search=search, architecture=smallest),
    )


def train_edits(
    edits: Path,
    output: Target,
    variants: Folder,
    section: Section,
    training: Training,
    size: SizeFile,
    stats: Stats,
    best: Best,
    reference_best: Annotated[Path, typer.Option("--reference-best", help="the reference's hyper-parameters")],
    framework: FrameworkName,
    worker: Annotated[int, typer.Option("--worker")],
    workers: Annotated[int, typer.Option("--workers")],
) -> None:
    """Train one worker's share of the ablated mechanisms; finished runs are kept."""
    from evomix.ablation import trainings
    from evomix.ablation.section import AblationSection
    from evomix.training.contained import train_all_contained

    rules = specs.load_section(section, AblationSection)
    tuned = {"reverted": best, "added": reference_best}

    def specify(kind: str, mechanism: Path, seed: int) -> specs.RunSpec:
        return specs.make_run_spec(
            framework=framework_of(framework),
            variant=mechanism.stem,
            size=rules.size,
            seed=seed,
            mechanism=mechanism,
            stats=stats,
            training=training,
            size_section=size,
            best=tuned[kind],
        )

    trainings.train(
        edits,
        variants,
        rules.seeds,
        worker,
        workers,
        output,
        specify=specify,
        train=lambda runs: train_all_contained(runs, stack=False),
    )


def measure_edits(
    summaries: list[Path],
    edits: Annotated[Path, typer.Option("--edits", help="edits.json")],
    workers: Annotated[list[Path], typer.Option("--worker", help="what each worker trained")],
    section: Section,
    output: Output,
) -> None:
    """Say what each edit is worth, beside the validation's runs SUMMARIES."""
    from evomix.ablation import effects
    from evomix.ablation.section import AblationSection

    effects.measure(edits, workers, summaries, specs.load_section(section, AblationSection), output)
