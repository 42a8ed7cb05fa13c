"""The paired comparison of two variants, standard and evolved by default, Holm-corrected over the frameworks."""


rule validate:
    """Test the reference against the candidate on paired seeds and check the pre-registered criteria of success."""
    input:
        section=section("validation"),
        protocol="PROTOCOL.md",
        scaling=expand("<results>/scaling/{framework}.json", framework=study.frameworks),
        tunings=sorted(
            {
                tuning(framework, variant)
                for framework, pair in PAIRS.items()
                for variant in pair
            }
        ),
        selections=[
            f"<results>/evolution/{framework}/{ARMS[0]}/selection.json"
            for framework, pair in PAIRS.items()
            if list(pair) == VARIANTS
        ],
        rescorings=[
            rescoring(framework, candidate)
            for framework, (_, candidate) in PAIRS.items()
        ],
        summaries=[
            path
            for framework, pair in PAIRS.items()
            for path in summaries(
                framework, pair, study.validation.size, study.validation.seeds
            )
        ],
    output:
        expand("<results>/validation/{framework}.json", framework=study.frameworks),
    log:
        "<logs>/validation/validate.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=fingerprint("evomix.statistics.validation"),
        results=lambda wildcards, output: str(Path(output[0]).parents[1]),
        scaling=lambda wildcards, input: str(Path(input.scaling[0]).parent),
        folder=lambda wildcards, output: str(Path(output[0]).parent),
    message:
        "Validating the candidates against their references"
    shell:
        "python -m evomix validate {input.summaries} --section {input.section} "
        "--results {params.results} --scaling {params.scaling} --output {params.folder} 2>&1 | tee {log}"


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
