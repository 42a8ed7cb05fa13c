"""Commands of the probes beyond the loss on text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evomix import specs
from evomix.commands.options import FrameworkName, Mechanism, Output, Section, Training, VariantName, framework_of
from evomix.probes.settings import ProbeLengths, Probes


def write_probe_data(section: Section, output: Output) -> None:
    """Write the sequences of all tasks, to train on and held out, into the folder OUTPUT."""
    from evomix.probes import tasks

    tasks.write_data(specs.load_section(section, Probes), output)


def run_probes(
    section: Section,
    training: Training,
    data: Annotated[Path, typer.Option("--data", help="folder of the tasks' sequences")],
    framework: FrameworkName,
    variant: VariantName,
    mechanism: Mechanism,
    output: Output,
) -> None:
    """Train a variant on every task and seed in the sandbox; finished runs are kept, an interrupted one resumes."""
    from evomix.probes import runs

    runs.run(
        framework_of(framework),
        variant,
        mechanism,
        specs.load_section(training, specs.TrainingSection),
        specs.load_section(section, Probes),
        data,
        output,
    )


def read_lengths(run_specs: list[Path], section: Section, output: Output) -> None:
    """Measure trained models of a variant on rows longer than those they were trained on."""
    from evomix.probes import lengths

    lengths.read_lengths(run_specs, specs.load_section(section, ProbeLengths).multiples, output)


def summarise_probes(
    section: Section,
    policy: Annotated[Path, typer.Option("--policy", help="section file `policy`")],
    pair: Annotated[tuple[str, str], typer.Option("--pair", help="reference and candidate")],
    runs: Annotated[tuple[Path, Path], typer.Option("--runs", help="their results on the tasks")],
    lengths: Annotated[tuple[Path, Path], typer.Option("--lengths", help="their losses at other lengths")],
    output: Output,
) -> None:
    """Compare the two variants of a framework on every task and at every length."""
    from evomix.probes import summary

    summary.summarise(
        specs.load_section(section, Probes),
        specs.load_section(policy, specs.PolicySection),
        pair,
        list(runs),
        list(lengths),
        output,
    )
