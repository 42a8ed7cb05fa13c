"""The command line: one subcommand per rule, named like it. Paths and identifiers only; specs and sections hold numbers.

Phases are imported inside their commands: importing torch or pandas costs seconds that most jobs need not pay.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from evomix import config as settings
from evomix import specs
from evomix.artifacts import canonical_json, digest_file, read_json, write_json
from evomix.errors import UserError

app = typer.Typer(
    help="Evolve sequence mixers, train them at full length, and judge them with honest statistics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Output = Annotated[Path, typer.Option("--output", help="file (or folder) to write")]
Target = Annotated[Path, typer.Argument(help="file to write")]
Section = Annotated[Path, typer.Option("--section", help="section file of the config")]
Spec = Annotated[Path, typer.Option("--spec", help="search spec")]
FrameworkName = Annotated[str, typer.Option("--framework", help="framework")]
Mechanism = Annotated[Path, typer.Option("--mechanism", help="frozen mechanism file")]
Stats = Annotated[Path, typer.Option("--stats", help="stats.json of the corpus")]
TrainingSection = Annotated[Path, typer.Option("--training", help="section file `training`")]
SizeSection = Annotated[Path, typer.Option("--size", help="section file of the model size")]


def main() -> None:
    """Run the command line; a UserError becomes one sentence on stderr and exit status 2."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _framework(name: str) -> settings.Framework:
    if name not in settings.FRAMEWORKS:
        raise UserError(f"unknown framework {name!r}; choose one of {', '.join(settings.FRAMEWORKS)}")
    return cast(settings.Framework, name)


# --- corpus ------------------------------------------------------------------------------------------------------------


@app.command()
def collect_documents(section: Path, manifest: Path) -> None:
    """Read the source, drop duplicates and split the documents into shards beside MANIFEST."""
    from evomix.corpus import documents

    documents.collect(specs.load_section(section, settings.Corpus), manifest.parent)


@app.command()
def train_tokenizer(section: Path, documents: Path, output: Target) -> None:
    """Train the byte-level BPE vocabulary."""
    from evomix.corpus import tokenizer

    tokenizer.train(documents, specs.load_section(section, settings.Corpus).vocabulary, output)


@app.command()
def encode_shard(tokenizer: Path, documents: Path, output: Target) -> None:
    """Encode one shard as packed uint16 tokens, with a manifest beside them."""
    from evomix.corpus import tokens

    tokens.encode(tokenizer, documents, output)


@app.command()
def summarise_corpus(output: Target) -> None:
    """Count documents, tokens and bytes of all shards in OUTPUT's folder."""
    from evomix.corpus import tokens

    tokens.summarise(output.parent, output)


# --- tuning ------------------------------------------------------------------------------------------------------------


@app.command()
def design_trials(section: Path, output: Target) -> None:
    """Ask Optuna for all trials of the design."""
    from evomix.tuning import design

    design.design(specs.load_section(section, settings.Tuning), output)


@app.command()
def run_trials(
    design: Path,
    output: Target,
    section: Section,
    training: TrainingSection,
    size: SizeSection,
    mechanism: Mechanism,
    stats: Stats,
    framework: FrameworkName,
    variant: Annotated[str, typer.Option("--variant")],
    worker: Annotated[int, typer.Option("--worker")],
    workers: Annotated[int, typer.Option("--workers")],
) -> None:
    """Train one worker's share of the trials; finished trials are kept."""
    from evomix.training.contained import train_contained
    from evomix.tuning import trials

    run = specs.make_trial_spec(
        framework=_framework(framework),
        variant=variant,
        mechanism=mechanism,
        stats=stats,
        training=training,
        size_section=size,
        tuning=section,
    )
    trials.run_trials(run, design, worker, workers, output.parent, output, train=train_contained)


@app.command()
def choose_hyperparameters(
    workers: list[Path],
    section: Section,
    policy: Annotated[Path, typer.Option("--policy", help="section file `policy`")],
    design: Annotated[Path, typer.Option("--design", help="design.json")],
    output: Output,
) -> None:
    """Fit the response surface of all trials and write its optimum."""
    from evomix.tuning import choice

    choice.choose(
        specs.load_section(section, settings.Tuning),
        design,
        workers,
        output,
        policy=specs.load_section(policy, specs.Policy).policy,
    )


# --- training ----------------------------------------------------------------------------------------------------------


@app.command()
def write_run_spec(
    output: Target,
    framework: FrameworkName,
    variant: Annotated[str, typer.Option("--variant")],
    size_name: Annotated[str, typer.Option("--size-name")],
    seed: Annotated[int, typer.Option("--seed")],
    mechanism: Mechanism,
    stats: Stats,
    training: TrainingSection,
    size: SizeSection,
    best: Annotated[Path, typer.Option("--best", help="tuned hyper-parameters")],
) -> None:
    """Write the spec of one run."""
    spec = specs.make_run_spec(
        framework=_framework(framework),
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


@app.command()
def train(spec: Path) -> None:
    """Train the run of SPEC in the sandbox; its files are written beside SPEC, an interrupted run resumes."""
    from evomix.training.contained import train_contained

    train_contained(specs.read_spec(spec, specs.RunSpec), spec.parent)


@app.command(hidden=True)
def train_worker(spec: Path, folder: Path) -> None:
    """Train in this very process: what `train` runs inside the sandbox."""
    from evomix.training import engine

    engine.train(specs.read_spec(spec, specs.RunSpec), folder)


# --- gate and certificates -----------------------------------------------------------------------------------------------


@app.command()
def gate(
    file: Path,
    framework: FrameworkName,
    training: Annotated[Path | None, typer.Option("--training", help="section file `training`")] = None,
    size: Annotated[Path | None, typer.Option("--size", help="section file of the model size")] = None,
) -> None:
    """Check a mechanism file and print one JSON record; exit status 0 accepts, 1 refuses."""
    from evomix.gate.gate import gate as check

    record = check(file, _framework(framework))
    print(canonical_json(record), end="")
    if not record["accepted"]:
        sys.exit(1)


@app.command()
def certify(
    file: Path, output: Target, framework: FrameworkName, training: TrainingSection, size: SizeSection
) -> None:
    """Write the certificate of a frozen variant."""
    from evomix.gate.gate import gate as check
