"""The evolved variants of all frameworks against each other, on the same seeds."""


rule compare_frameworks:
    """Compare the evolved variants across frameworks."""
    input:
        section=section("validation"),
        summaries=expand(
            summaries("evolved", study.validation.size, study.validation.seeds),
            framework=study.frameworks,
        ),
    output:
        "<results>/comparison/frameworks.json",
    log:
        "<logs>/comparison/compare_frameworks.log",
    conda:
        "../../envs/analysis.yaml"
    params:
        code=fingerprint("evomix.statistics.comparison"),
    message:
        "Comparing the frameworks"
    shell:
        "python -m evomix compare-frameworks {input.summaries} --section {input.section} "
        "--output {output} 2>&1 | tee {log}"
