"""Scaling laws: loss against non-embedding parameters for both variants of a framework."""


rule fit_scaling_law:
    """Fit and compare the scaling laws of both variants."""
    input:
        section=section("policy"),
        summaries=lambda wildcards: summaries(
            wildcards.framework,
            PAIRS[wildcards.framework],
            study.scaling.sizes,
            study.scaling.seeds,
        ),
        rescoring=lambda wildcards: rescoring(
            wildcards.framework, PAIRS[wildcards.framework][1]
        ),
    output:
        "<results>/scaling/{framework}.json",
    log:
        "<logs>/scaling/{framework}.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=fingerprint("evomix.statistics.scaling_law"),
        pair=lambda wildcards: "{} {}".format(*PAIRS[wildcards.framework]),
    message:
        "Scaling law of {wildcards.framework}"
    shell:
        "python -m evomix fit-scaling-law {input.summaries} --section {input.section} "
        "--rescoring {input.rescoring} --framework {wildcards.framework} --pair {params.pair} --output {output} 2>&1 | tee {log}"
