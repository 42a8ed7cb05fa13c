"""The judged variants of all frameworks (the evolved ones, unless the config says otherwise) on the same seeds."""


rule compare_frameworks:
    """Compare the judged variants across frameworks."""
    input:
        section=section("validation"),
        protocol="PROTOCOL.md",
        tunings=[
            tuning(framework, candidate) for framework, (_, candidate) in PAIRS.items()
        ],
        rescorings=[
            rescoring(framework, candidate)
            for framework, (_, candidate) in PAIRS.items()
        ],
        summaries=[
            path
            for framework, (_, candidate) in PAIRS.items()
            for path in summaries(
                framework,
                candidate,
                study.validation.size,
                study.validation.seeds,
            )
        ],
    output:
        "<results>/comparison/frameworks.json",
    log:
        "<logs>/comparison/compare_frameworks.log",
    localrule: True
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
