"""The config becomes files, one per section."""


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
