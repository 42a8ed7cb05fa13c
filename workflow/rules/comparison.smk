"""The evolved variants of all frameworks against each other, on the same seeds."""


rule compare_frameworks:
    """Compare the evolved variants across frameworks."""
    input:
        section=section("validation"),
        tunings=[tuning(framework, "evolved") for framework in study.frameworks],
        summaries=summaries(
            study.frameworks,
            "evolved",
            study.validation.size,
            study.validation.seeds,
        ),
    output:
        "<results>/comparison/frameworks.json",
    log:
        "<logs>/comparison/compare_frameworks.log",
    conda:
        "../../envs/analysis.yaml"
    params:
        code=fingerprint("evomix.statistics.comparison"),
        results=lambda wildcards, output: str(Path(output[0]).parents[1]),
    message:
        "Comparing the frameworks"
    shell:
        "python -m evomix compare-frameworks {input.summaries} --section {input.section} --results {params.results} "
        "--output {output} 2>&1 | tee {log}"
