"""The A/A study: the standard against copies of itself through every phase; a sound analysis finds nothing."""


rule freeze_copy:
    """A byte-copy of the standard becomes a variant, with a tuning and trainings of its own."""
    input:
        "<results>/mechanisms/{framework}/standard.py",
    output:
        "<results>/mechanisms/{framework}/{double}.py",
    log:
        "<logs>/mechanisms/{framework}/freeze_{double}.log",
    localrule: True
    conda:
        "../../envs/driver.yaml"
    message:
        "Freezing {wildcards.double} of the standard of {wildcards.framework}"
    shell:
        "cp {input} {output} 2> {log}"


use rule fit_scaling_law as fit_scaling_law_aa with:
    input:
        section=section("policy"),
        summaries=lambda wildcards: summaries(
            wildcards.framework,
            copies.pair(int(wildcards.study)),
            study.scaling.sizes,
            study.scaling.seeds,
        ),
        rescoring=lambda wildcards: rescoring(
            wildcards.framework, copies.pair(int(wildcards.study))[1]
        ),
    output:
        "<results>/aa/study_{study}/scaling/{framework}.json",
    log:
        "<logs>/aa/study_{study}/scaling/{framework}.log",
    params:
        code=fingerprint("evomix.statistics.scaling_law"),
        pair=lambda wildcards: "{} {}".format(*copies.pair(int(wildcards.study))),
    message:
        "Scaling law of {wildcards.framework}, A/A study {wildcards.study}"


use rule validate as validate_aa with:
    input:
        section=section("aa-{study}"),
        protocol="PROTOCOL.md",
        scaling=expand(
            "<results>/aa/study_{{study}}/scaling/{framework}.json",
            framework=study.frameworks,
        ),
        tunings=lambda wildcards: sorted(
            {
                tuning(framework, variant)
                for framework in study.frameworks
                for variant in copies.pair(int(wildcards.study))
            }
        ),
        rescorings=lambda wildcards: [
            rescoring(framework, copies.pair(int(wildcards.study))[1])
            for framework in study.frameworks
        ],
        summaries=lambda wildcards: summaries(
            study.frameworks,
            copies.pair(int(wildcards.study)),
            study.validation.size,
            study.validation.seeds,
        ),
    output:
        expand(
            "<results>/aa/study_{{study}}/validation/{framework}.json",
            framework=study.frameworks,
        ),
    log:
        "<logs>/aa/study_{study}/validate.log",
    params:
        code=fingerprint("evomix.statistics.validation"),
        results=lambda wildcards, output: str(Path(output[0]).parents[3]),
        scaling=lambda wildcards, input: str(Path(input.scaling[0]).parent),
        folder=lambda wildcards, output: str(Path(output[0]).parent),
    message:
        "Validating copies of the standard, A/A study {wildcards.study}"


rule summarise_aa:
    """Count what the A/A studies claim; every claim is false."""
    input:
        section=section("policy"),
        validations=expand(
            "<results>/aa/study_{number}/validation/{framework}.json",
            number=aa_studies(study),
            framework=study.frameworks,
        ),
    output:
        "<results>/aa.json",
    log:
        "<logs>/aa/summarise_aa.log",
    conda:
        "../../envs/analysis.yaml"
    params:
        code=fingerprint("evomix.statistics.aa"),
    message:
        "Counting the claims of the A/A studies"
    shell:
        "python -m evomix summarise-aa {input.validations} --section {input.section} --output {output} 2>&1 | tee {log}"
