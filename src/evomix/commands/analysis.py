"""Commands that analyse, draw and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evomix import settings, specs
from evomix.artifacts import read_json, write_text
from evomix.commands.options import FrameworkName, Output, Section, Target, framework_of
from evomix.errors import UserError

Results = Annotated[Path, typer.Option("--results", help="results folder of the study")]


def fit_scaling_law(
    summaries: list[Path],
    framework: FrameworkName,
    section: Section,
    pair: Annotated[tuple[str, str], typer.Option("--pair", help="reference and candidate")],
    rescoring: Annotated[Path, typer.Option("--rescoring", help="the candidate's losses, measured again")],
    output: Output,
) -> None:
    """Fit and compare the scaling laws of a framework's reference and candidate."""
    from evomix.statistics import scaling_law

    labels = specs.load_section(section, specs.PolicySection)
    scaling_law.fit(
        framework_of(framework),
        summaries,
        output,
        **labels.labels(),
        variants=pair,
        rescoring=rescoring,
    )


def validate(
    summaries: list[Path],
    section: Section,
    results: Results,
    scaling: Annotated[Path, typer.Option("--scaling", help="folder of the scaling laws")],
    output: Output,
) -> None:
    """Write the paired validation of every framework into the folder OUTPUT."""
    from evomix.statistics import validation

    study = specs.load_section(section, specs.ValidationSection)
    names = study.frameworks
    pairs = {name: study.validation.pair(name) for name in names}
    validation.validate(
        study.validation,
        names,
        summaries,
        {name: scaling / f"{name}.json" for name in names},
        output,
        tunings={
            name: {
                arm: study.tuning(results, name, variant) for arm, variant in zip(validation.ARMS, pair, strict=True)
            }
            for name, pair in pairs.items()
        },
        selections={
            name: results / f"evolution/{name}/{study.arm}/selection.json"
            for name, pair in pairs.items()
            if pair == validation.ARMS
        },
        rescorings={name: results / f"rescoring/{name}/{pair[1]}.json" for name, pair in pairs.items()},
        **study.labels(),
    )


def summarise_aa(validations: list[Path], section: Section, output: Output) -> None:
    """Count what the A/A studies claim, from their validations (…/study_N/validation/FRAMEWORK.json)."""
    from evomix.statistics import aa

    aa.summarise(validations, output, **specs.load_section(section, specs.PolicySection).labels())


def compare_frameworks(summaries: list[Path], section: Section, results: Results, output: Output) -> None:
    """Compare the judged variants of all frameworks on shared seeds."""
    from evomix.statistics import comparison

    study = specs.load_section(section, specs.ValidationSection)
    judged = {str(name): study.validation.pair(name)[1] for name in study.frameworks}
    comparison.compare(
        study.validation,
        study.frameworks,
        summaries,
        output,
        tunings={name: study.tuning(results, name, variant) for name, variant in judged.items()},
        rescorings={name: results / f"rescoring/{name}/{variant}.json" for name, variant in judged.items()},
        **study.labels(),
    )


def calibrate(
    section: Section,
    tuning: Annotated[Path, typer.Option("--tuning", help="section file `tuning`")],
    size: Annotated[Path, typer.Option("--calibration", help="section file `calibration`")],
    output: Output,
) -> None:
    """Send simulated studies through the analysis and write its error rates."""
    from evomix.statistics import calibration

    study = specs.load_section(section, specs.ValidationSection)
    calibration.calibrate(
        study.validation,
        list(study.frameworks),
        specs.load_section(tuning, settings.Tuning),
        output,
        studies=specs.load_section(size, specs.CalibrationSection).studies,
        **study.labels(),
    )


def measure_horizon(
    evaluations: list[Path], section: Section, size: Annotated[str, typer.Option("--size-name")], output: Output
) -> None:
    """Would a shorter training have ranked the trained candidates alike? From the curves of one size."""
    from evomix.statistics import horizon

    curves = {
        f"{path.parents[1].name}/{path.parent.name}": curve
        for path in evaluations
        for curve in sorted((path.parent / "training" / size).glob("seed_*/curve.parquet"))[:1]
        if read_json(path, "evaluation")["losses"].get(size)
    }
    labels = specs.load_section(section, specs.PolicySection).labels()
    horizon.horizon(list(curves.values()), list(curves), output, **labels)


def verdicts(results: Path) -> None:
    """Print one line per framework and where the report is."""
    from evomix.statistics.verdict import verdict_line

    files = sorted((results / "validation").glob("*.json"))
    if not files:
        raise UserError(f"no validation under {results}; run the workflow first (make demo)")
    for path in files:
        print(verdict_line(read_json(path, "validation")))
    print(f"report: {results / 'report.html'}")


def materialise_mixing(
    spec: Path,
    weights: Path,
    tokenizer: Annotated[Path, typer.Option("--tokenizer", help="tokenizer.json")],
    documents: Annotated[Path, typer.Option("--documents", help="JSONL whose first document is shown")],
    output: Output,
) -> None:
    """Write the mixing matrices of a trained variant on one real sentence."""
    from evomix.model import materialise

    materialise.materialise(spec, weights, tokenizer, documents, output)


def draw_figure(
    name: str,
    view: Annotated[str, typer.Option("--view", help="a framework, or `study` for figures over all of them")],
    results: Results,
) -> None:
    """Draw one figure as SVG, PDF and PNG, with its numbers as CSV."""
    from evomix.figures import catalogue, draw

    framework = None if view == catalogue.STUDY else framework_of(view)
    draw.draw(name, results, results / catalogue.stem(name, framework), framework)


def write_tables(folder: Path, results: Results) -> None:
    """Write every table of the study as CSV and HTML into FOLDER."""
    from evomix.report import write_table

    for name in write_table.TABLES:
        write_table.write(name, results, folder / name)


def write_card(output: Target, framework: FrameworkName, results: Results) -> None:
    """Write the card of a framework's evolved variant as Markdown."""
    from evomix.report import card

    card.write_card(results, framework_of(framework), output)


def build_report(output: Target) -> None:
    """Write the self-contained HTML report of the results folder that holds OUTPUT."""
    from evomix.report import build

    build.build(output.parent, output)


def write_reference(
    table: Annotated[Path, typer.Option("--table")] = Path("config/README.md"),
    schema: Annotated[Path, typer.Option("--schema")] = Path("workflow/schemas/config.schema.json"),
    captions: Annotated[Path, typer.Option("--captions")] = Path("workflow/report/figure.rst"),
) -> None:
    """Write what is generated from the code: options table, JSON schema, captions of `snakemake --report`."""
    from evomix import reference
    from evomix.figures import catalogue

    write_text(table, reference.options_table())
    write_text(schema, reference.json_schema())
    write_text(captions, catalogue.captions())
