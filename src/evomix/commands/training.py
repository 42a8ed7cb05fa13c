"""Commands that tune, specify and train runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from evomix import settings, specs
from evomix.artifacts import read_text
from evomix.commands.options import (
    Best,
    FrameworkName,
    Mechanism,
    Output,
    Policy,
    Section,
    SizeFile,
    Stats,
    Target,
    Training,
    VariantName,
    framework_of,
)
from evomix.errors import UserError


def design_trials(section: Path, output: Target) -> None:
    """Ask Optuna for all trials of the design."""
    from evomix.tuning import design

    design.design(specs.load_section(section, settings.Tuning), output)


def run_trials(
    design: Path,
    output: Target,
    section: Section,
    training: Training,
    size: SizeFile,
    mechanism: Mechanism,
    stats: Stats,
    framework: FrameworkName,
    variant: VariantName,
    worker: Annotated[int, typer.Option("--worker")],
    workers: Annotated[int, typer.Option("--workers")],
) -> None:
    """Train one worker's share of the trials; finished trials are kept."""
    from evomix.training.contained import train_all_contained, train_contained, train_contained_until
    from evomix.tuning import trials

    run = specs.make_trial_spec(
        framework=framework_of(framework),
        variant=variant,
        mechanism=mechanism,
        stats=stats,
        training=training,
        size_section=size,
        tuning=section,
    )
    trials.run_trials(
        run,
        design,
        worker,
        workers,
        output.parent,
        output,
        train=train_contained,
        pause=train_contained_until,
        train_all=train_all_contained,
    )


def choose_hyperparameters(
    workers: list[Path],
    section: Section,
    policy: Policy,
    design: Annotated[Path, typer.Option("--design", help="design.json")],
    output: Output,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="best.json of the variant to compare with")
    ] = None,
) -> None:
    """Fit the response surface of all trials and write its optimum, or the reference's where nothing speaks against."""
    from evomix.tuning import choice

    labels = specs.load_section(policy, specs.PolicySection)
    tuning = specs.load_section(section, settings.Tuning)
    choice.choose(tuning, design, workers, output, policy=labels.policy, reference=reference)


def write_run_spec(
    output: Target,
    framework: FrameworkName,
    variant: VariantName,
    size_name: Annotated[str, typer.Option("--size-name")],
    seed: Annotated[int, typer.Option("--seed")],
    mechanism: Mechanism,
    stats: Stats,
    training: Training,
    size: SizeFile,
    best: Best,
) -> None:
    """Write the spec of one run."""
    spec = specs.make_run_spec(
        framework=framework_of(framework),
        variant=variant,
        size=size_name,
        seed=seed,
        mechanism=mechanism,
        stats=stats,
        training=training,
        size_section=size,
        best=best,
    )
    specs.write_spec(output, spec)


def write_member_spec(
    output: Target,
    framework: FrameworkName,
    variant: VariantName,
    section: Section,
    mechanism: Mechanism,
    stats: Stats,
    training: Training,
    size: SizeFile,
    best: Best,
) -> None:
    """Write the spec by which a gallery member is trained."""
    gallery = specs.load_section(section, settings.Gallery)
    spec = specs.make_run_spec(
        framework=framework_of(framework),
        variant=variant,
        size=gallery.size,
        seed=gallery.seed,
        mechanism=mechanism,
        stats=stats,
        training=training,
        size_section=size,
        best=best,
        shard="search",
        steps=gallery.steps,
    )
    specs.write_spec(output, spec)


def tabulate_gallery(
    summaries: list[Path],
    section: Section,
    policy: Policy,
    stats: Stats,
    output: Output,
) -> None:
    """Write the table of all gallery members, and their measured times beside it."""
    from evomix.mechanisms import table

    labels = specs.load_section(policy, specs.PolicySection).labels()
    table.tabulate(specs.load_section(section, settings.Gallery), summaries, stats, output, **labels)


def train(spec: Path) -> None:
    """Train the run of SPEC in the sandbox; its files are written beside SPEC, an interrupted run resumes."""
    from evomix.training import keeping
    from evomix.training.contained import RunError, train_contained

    keeping.restore(spec.parent)
    try:
        train_contained(specs.read_spec(spec, specs.RunSpec), spec.parent)
    except RunError as error:
        raise UserError(f"training {spec.parent} failed: {error}") from None
    keeping.keep(spec.parent)


def train_worker(
    folders: list[Path],
    way: Annotated[Literal["any", "stacked", "alone"], typer.Option(help="how runs may be carried out")] = "any",
    why: Annotated[str, typer.Option(help="why runs are trained alone, for timing.json")] = "each as alone",
    until: Annotated[int | None, typer.Option("--until", help="step at which to pause")] = None,
    compiled: Annotated[Path | None, typer.Option("--compiled", help="folder of the compiled step")] = None,
    origin: Annotated[str, typer.Option("--origin", help="what became of compiling, for timing.json")] = "",
) -> None:
    """Train the runs whose spec.json stands in FOLDERS in this very process: what `train` runs inside the sandbox.

    Of several runs, those that are not worth stacking stay untrained with --way stacked, and the last line says why.
    """
    from evomix.training import engine, ensemble

    runs = [specs.read_spec(folder / "spec.json", specs.RunSpec) for folder in folders]
    if way == "stacked":
        print(ensemble.train_stacked(runs, folders, compiled, origin), file=sys.stderr)
    elif until is not None:
        if compiled is not None:
            ensemble.train_stacked(runs, folders, compiled, origin, until)
        for spec, folder in zip(runs, folders, strict=True):
            engine.train_until(spec, folder, until)
    elif way == "any" or compiled is not None:
        ensemble.train_many(runs, folders, compiled, origin)
    else:
        for spec, folder in zip(runs, folders, strict=True):
            engine.train(spec, folder, why)


def trace_worker(output: Path, folders: list[Path]) -> None:
    """Write the traced step of the stacked runs in FOLDERS to the folder OUTPUT: runs inside the sandbox."""
    from evomix.training import ensemble

    runs = [specs.read_spec(folder / "spec.json", specs.RunSpec) for folder in folders]
    ensemble.trace_many(runs, folders, output)


def compile_worker(
    graph: Path,
    output: Path,
    compiler: Annotated[str, typer.Option("--compiler")],
    device: Annotated[str, typer.Option("--device")],
    deterministic: Annotated[bool, typer.Option("--deterministic")] = False,
) -> None:
    """Compile the traced step GRAPH into the library OUTPUT: runs in a confined process that meets no candidate."""
    from evomix.training import compiling

    compiling.compile_graph(read_text(graph), output, compiler, device, deterministic=deterministic)
