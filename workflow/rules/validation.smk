"""The paired comparison of standard and evolved, Holm-corrected over the frameworks."""


rule validate:
    """Test standard against evolved on paired seeds and check the pre-registered criteria of success."""
    input:
        section=section("validation"),
        protocol="PROTOCOL.md",
        scaling=expand("<results>/scaling/{framework}.json", framework=study.frameworks),
        tunings=expand(
            "<results>/tuning/{framework}/{variant}/best.json",
            framework=study.frameworks,
            variant=TUNED,
        ),
        selections=expand(
            f"<results>/evolution/{{framework}}/{ARMS[0]}/selection.json",
            framework=study.frameworks,
        ),
        rescorings=expand(
            "<results>/rescoring/{framework}/evolved.json", framework=study.frameworks
        ),
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
        results=lambda wildcards, output: str(Path(output[0]).parents[1]),
        folder=lambda wildcards, output: str(Path(output[0]).parent),
    message:
        "Validating standard against evolved"
    shell:
        "python -m evomix validate {input.summaries} --section {input.section} "
        "--results {params.results} --output {params.folder} 2>&1 | tee {log}"


rule calibrate:
    """Send simulated studies through the very same analysis: do its error rates hold?"""
    input:
        section=section("validation"),
        tuning=section("tuning"),
        calibration=section("calibration"),
    output:
        "<results>/calibration.json",
    log:
        "<logs>/validation/calibrate.log",
    conda:
        "../../envs/analysis.yaml"
    params:
        code=fingerprint("evomix.statistics.calibration"),
    message:
        "Calibrating the analysis on simulated studies"
    shell:
        "python -m evomix calibrate --section {input.section} --tuning {input.tuning} "
        "--calibration {input.calibration} --output {output} 2>&1 | tee {log}"
