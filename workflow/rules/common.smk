"""Paths, wildcards and config sections shared by all rules. Files only: no hyper-parameter is read or decided here."""

import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

try:
    from evomix import copies, resources
    from evomix.config import load_config
    from evomix.corpus.sources import files as source_files
    from evomix.settings import FRAMEWORKS
    from evomix.errors import UserError
    from evomix.figures import catalogue
    from evomix.mechanisms.members import members
    from evomix.sections import aa_studies, sections
    from evomix.why import recording
except ModuleNotFoundError as error:
    raise WorkflowError(
        f"{error}; run `make env` and use .venv/bin/snakemake"
    ) from None

try:
    study = load_config(
        {key: value for key, value in config.items() if key != "pathvars"}
    )
except UserError as error:
    raise WorkflowError(str(error)) from None

results = "results" if study.preset == "paper" else f"results/{study.preset}"

try:
    Path(results, "logs").mkdir(parents=True, exist_ok=True)
    Path(results, "logs", ".writable").touch()
except OSError as error:
    raise WorkflowError(
        f"cannot write to {results}: {error.strerror}; mend its permissions or move the clone"
    ) from None


# Which code made what: `make why` names the modules that changed since.
fingerprint = recording(Path(results, "logs", "code"))


pathvars:
    results=results,
    logs=f"{results}/logs",


# Every job runs in the interpreter that runs the workflow.
shell.prefix(f"set -euo pipefail; export PATH={Path(sys.executable).parent}:$PATH; ")


SECTIONS = sections(study)
ARMS = study.evolution.arms
SLOTS = range(study.evolution.wave_size)
LAST_WAVE = study.evolution.waves
# Snakemake walks a chain of jobs by recursion, and each wave waits for the one before it.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 1000 + 10 * LAST_WAVE))
FINALISTS = range(1, study.evolution.finalists + 1)
WORKERS = range(study.tuning.workers)
VARIANTS = ["standard", "evolved"]
PAIRS = {framework: study.validation.pair(framework) for framework in study.frameworks}
GALLERY = [
    (framework, member)
    for framework in study.frameworks
    for member in members(framework)
]
MEMBERS = sorted({member for framework in FRAMEWORKS for member in members(framework)})
SMALLEST = min(
    study.evolution.sizes,
    key=lambda name: (study.sizes[name].width, study.sizes[name].layers),
)
HELD_OUT = ["search", "selection", "test"]
GPUS = int(study.training.device == "cuda")
LONGEST = getattr(
    (workflow.resource_settings.default_resources or {}).get("longest"), "value", None
)
"""Longest run time of a job in minutes, a default resource of the profile; a longer training continues in the next job."""

CANDIDATE, FINALIST = (
    resources.judgement(study, role) for role in ("candidates", "finalists")
)


wildcard_constraints:
    framework="coefficient_dynamics|test_time_regression|matrix_mixer",
    variant="|".join([*VARIANTS, *MEMBERS, copies.PATTERN]),
    member="|".join(MEMBERS),
    double=copies.PATTERN,
    study=r"[1-9]\d*",
    arm="guided|random|best_of_n",
    size="[A-Za-z0-9][A-Za-z0-9.-]*",
    section="[a-z]+(-[A-Za-z0-9.-]+)?",
    shard="train|search|selection|test",
    seed=r"\d+",
    worker=r"\d+",
    wave=r"\d+",
    slot=r"\d+",
    rank=r"\d+",


def summaries(framework, variants, sizes, seeds):
    """Return the training summaries of a framework's variants over sizes and seeds; copies have seeds of their own."""
    return [
        path
        for variant in ([variants] if isinstance(variants, str) else variants)
        for path in expand(
            "<results>/training/{framework}/{variant}/{size}/seed_{seed}/summary.json",
            framework=framework,
            variant=variant,
            size=sizes,
            seed=copies.final_seeds(variant, seeds),
        )
    ]


def runs(name, across_sizes=False):
    """Return an input function: one file of each validation run of a variant; `across_sizes` adds the scaling law's."""
    grids = [([study.validation.size], study.validation.seeds)]
    if across_sizes:
        grids.append((study.scaling.sizes, study.scaling.seeds))
    return lambda wildcards: list(
        dict.fromkeys(
            path
            for sizes, seeds in grids
            for path in expand(
                "<results>/training/{framework}/{variant}/{size}/seed_{seed}/{name}",
                framework=wildcards.framework,
                variant=wildcards.variant,
                size=sizes,
                seed=copies.final_seeds(wildcards.variant, seeds),
                name=name,
            )
        )
    )


def training_code(*modules):
    """Return a params function: the fingerprint of what decides a training of the framework, and of `modules`."""
    return lambda wildcards: fingerprint(
        "evomix.training.engine",
        f"evomix.mechanisms.{wildcards.framework}.contract",
        *modules,
    )


def corpus_files():
    """Return the local files that the corpus is made of; a wrong path is said by the rule that reads it."""
    if study.corpus.source in ("grammar", "tinystories"):
        return []
    try:
        return [str(path) for path in source_files(study.corpus.source)]
    except UserError:
        return []


def probed(kind):
    """Return what a probe of the cluster asks for: what `train` or `evaluate` would."""
    return {
        "training": resources.training(study, study.validation.size),
        "candidate": resources.judgement(study, "candidates"),
    }[kind]


def section(name):
    """Return the file that holds one section of the config."""
    return f"<results>/config/{name}.json"


def tuning(framework, variant):
    """Return the tuning that a variant's runs use: its own under policy `joint`, the standard's under `shared`."""
    tuned = "standard" if study.tuning.policy == "shared" else variant
    return f"<results>/tuning/{framework}/{tuned}/best.json"


def tuned_reference(wildcards):
    """Return the tuning of the variant that this one is compared with, if it is the candidate of a comparison."""
    framework, variant = wildcards.framework, wildcards.variant
    reference, candidate = (
        copies.pair(copies.study_of(variant))
        if re.fullmatch(copies.PATTERN, variant)
        else study.validation.pair(framework)
    )
    if variant != candidate:
        return []
    folder = f"<results>/tuning/{framework}/{reference}"
    return [f"{folder}/best.json", f"{folder}/trials.parquet"]


def rescoring(framework, variant):
    """Return the trusted re-measurement of a variant's losses."""
    return f"<results>/rescoring/{framework}/{variant}.json"


def budgets(wildcards):
    """Return the search spec by whose budgets a variant is certified; the standard is the measure of all budgets."""
    return (
        []
        if wildcards.variant == "standard"
        else f"<results>/evolution/{wildcards.framework}/candidates.spec.json"
    )


def seeds(template):
    """Return an input function: one file for each gallery member that seeds the framework's search."""
    return lambda wildcards: expand(
        template,
        framework=wildcards.framework,
        member=study.evolution.seed_members.get(wildcards.framework, []),
    )


def previous(name):
    """Return an input function for an artifact of the wave before."""
    return (
        lambda wildcards: f"<results>/evolution/{wildcards.framework}/{wildcards.arm}/wave_{int(wildcards.wave) - 1}/{name}"
    )


def search_evaluations():
    """Return the evaluations of all slots of all waves; framework and arm stay wildcards."""
    return expand(
        "<results>/evolution/{{framework}}/{{arm}}/wave_{wave}/slot_{slot}/evaluation.json",
        wave=range(1, LAST_WAVE + 1),
        slot=SLOTS,
    )


def ablations():
    """Return the ablation of every framework, none where the config leaves them out."""
    return expand(
        "<results>/ablation/{framework}.json",
        framework=study.frameworks if study.ablation.edits else [],
    )


def figure_inputs(wildcards):
    """Return what a figure reads; `view` is a framework, or `study` for figures over all of them."""
    view = None if wildcards.view == catalogue.STUDY else wildcards.view
    return [
        f"<results>/{path}" for path in catalogue.inputs(wildcards.figure, study, view)
    ]


def figure_stems():
    """Return the stems of all figures of the study, under the results folder."""
    return [
        catalogue.stem(entry.name, framework)
        for entry in [
            *catalogue.CATALOGUE,
            catalogue.find("horizon"),
            catalogue.find("calibration"),
            *([catalogue.find("ablation")] if study.ablation.edits else []),
        ]
        for framework in (study.frameworks if entry.per_framework else [None])
    ]


def report_inputs():
    """Return the results that the report and the tables read, beside figures."""
    frameworks, arms = study.frameworks, ARMS
    return [
        section("costs"),
        "<results>/comparison/frameworks.json",
        "<results>/calibration.json",
        *ablations(),
        *expand("<results>/validation/{framework}.json", framework=frameworks),
        *expand("<results>/scaling/{framework}.json", framework=frameworks),
        *expand("<results>/probes/{framework}.json", framework=frameworks),
        *(
            rescoring(framework, candidate)
            for framework, (_, candidate) in PAIRS.items()
        ),
        *expand(
            "<results>/evolution/{framework}/{arm}/selection.json",
            framework=frameworks,
            arm=arms,
        ),
        *expand(
            "<results>/evolution/{framework}/{arm}/lineage.json",
            framework=frameworks,
            arm=arms,
        ),
        *(
            f"<results>/mechanisms/{framework}/{variant}.{state}"
            for framework, pair in PAIRS.items()
            for variant in dict.fromkeys([*VARIANTS, *pair])
            for state in ("certificate.json", "trained.certificate.json")
        ),
    ]


def card_inputs(wildcards):
    """Return what the card of a framework's judged variant reads."""
    framework, pair = wildcards.framework, PAIRS[wildcards.framework]
    return [
        section("validation"),
        section("policy"),
        f"<results>/validation/{framework}.json",
        f"<results>/scaling/{framework}.json",
        f"<results>/probes/{framework}.json",
        *(path for path in ablations() if framework in path),
        tuning(framework, pair[1]),
        *expand(
            "<results>/mechanisms/{framework}/{variant}.{kind}",
            framework=framework,
            variant=pair,
            kind=["py", "certificate.json", "trained.certificate.json"],
        ),
        *summaries([framework], pair, study.validation.size, study.validation.seeds),
    ]
