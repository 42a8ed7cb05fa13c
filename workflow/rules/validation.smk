"""The paired comparison of standard and evolved, Holm-corrected over the frameworks."""


rule validate:
    """Test standard against evolved on paired seeds and check the pre-registered criteria of success."""
    input:
        section=section("validation"),
        policy=section("policy"),
        protocol="PROTOCOL.md",
        scaling=expand("<results>/scaling/{framework}.json", framework=study.frameworks),
        selections=expand(f"<results>/evolution/{{framework}}/{ARMS[0]}/selection.json", framework=study.frameworks),
        summaries=expand(
            summaries(VARIANTS, study.validation.size, study.validation.seeds), framework=study.frameworks
        ),
    output:
        expand("<results>/validation/{framework}.json", framework=study.frameworks),
    log:
        "<logs>/validation/validate.log",
    params:
        code=fingerprint("evomix.statistics.validation"),
    conda:
        "../../envs/analysis.yaml"
    message:
        "Validating standard against evolved"
    shell:
        "python -m evomix validate {input.summaries} --section {input.section} --policy {input.policy} "
        "--output {results}/validation 2>&1 | tee {log}"
