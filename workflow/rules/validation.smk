"""The paired comparison of standard and evolved, Holm-corrected over the frameworks."""


rule validate:
    """Test standard against evolved on paired seeds and check the pre-registered criteria of success."""
    input:
        section=section("validation"),
        protocol="PROTOCOL.md",
        scaling=expand("<results>/scaling/{framework}.json", framework=study.frameworks),
        summaries=expand(
            summaries(VARIANTS, study.validation.size, study.validation.seeds),
            framework=study.frameworks,
        ),
    output:
        expand("<results>/validation/{framework}.json", framework=study.frameworks),
    log:
        "<logs>/validation/validate.log",
    conda:
        "../../envs/analysis.yaml"
    params:
        code=fingerprint("evomix.statistics.validation"),
        scaling=lambda wildcards, input: str(Path(input.scaling[0]).parent),
        folder=lambda wildcards, output: str(Path(output[0]).parent),
    message:
        "Validating standard against evolved"
    shell:
        "python -m evomix validate {input.summaries} --section {input.section} "
        "--scaling {params.scaling} --output {params.folder} 2>&1 | tee {log}"
