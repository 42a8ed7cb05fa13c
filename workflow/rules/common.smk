"""Paths, wildcards and config sections shared by all rules. Files only: no hyper-parameter is read or decided here."""

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

try:
    from evomix.config import load_config, sections
    from evomix.errors import UserError
    from evomix.fingerprint import fingerprint
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


pathvars:
    results=results,
    logs=f"{results}/logs",


# Every job runs in the interpreter that runs the workflow.
shell.prefix(f"set -euo pipefail; export PATH={Path(sys.executable).parent}:$PATH; ")


SECTIONS = sections(study)
ARMS = study.evolution.arms
SLOTS = range(study.evolution.wave_size)
VARIANTS = ["standard", "evolved"]
HELD_OUT = ["search", "selection", "test"]
GPUS = int(study.training.device == "cuda")


wildcard_constraints:
    framework="coefficient_dynamics|test_time_regression|matrix_mixer",
    variant="standard|evolved",
    arm="guided|random|best_of_n",
    size="[A-Za-z0-9][A-Za-z0-9.-]*",
    section="[a-z]+(-[A-Za-z0-9.-]+)?",
    shard="train|search|selection|test",
    seed=r"\d+",
    worker=r"\d+",
    wave=r"\d+",
    slot=r"\d+",
    rank=r"\d+",


def summaries(variants, sizes, seeds):
    """Return the training summaries of variants over sizes and seeds; the framework stays a wildcard."""
    return expand(
        "<results>/training/{{framework}}/{variant}/{size}/seed_{seed}/summary.json",
        variant=variants,
        size=sizes,
        seed=seeds,
    )


def training_code(*modules):
    """Return a params function: the fingerprint of what decides a training of the framework, and of `modules`."""
    return lambda wildcards: fingerprint(
        "evomix.training.engine",
        f"evomix.mechanisms.{wildcards.framework}.contract",
        *modules,
    )


def section(name):
    """Return the file that holds one section of the config."""
    return f"<results>/config/{name}.json"


rule configure:
    """One section of the config becomes a file, so that a rule re-runs only when a section it reads changes."""
    output:
        "<results>/config/{section}.json",
    log:
        "<logs>/config/{section}.log",
    localrule: True
    conda:
        "../../envs/driver.yaml"
    params:
        content=lambda wildcards: SECTIONS[wildcards.section],
    message:
        "Config section {wildcards.section}"
    shell:
        "printf '%s\\n' {params.content:q} > {output} 2> {log}"
