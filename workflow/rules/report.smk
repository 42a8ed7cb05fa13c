"""One self-contained HTML report of the study."""


rule build_report:
    """Write the report that a reader opens first: verdicts, evidence, mechanisms, costs."""
    input:
        validation=expand(
            "<results>/validation/{framework}.json", framework=study.frameworks
        ),
        scaling=expand("<results>/scaling/{framework}.json", framework=study.frameworks),
        comparison="<results>/comparison/frameworks.json",
        selections=expand(
            "<results>/evolution/{framework}/{arm}/selection.json",
            framework=study.frameworks,
            arm=ARMS,
        ),
        certificates=expand(
            "<results>/mechanisms/{framework}/{variant}.certificate.json",
            framework=study.frameworks,
            variant=VARIANTS,
        ),
        figures=[f"<results>/{stem}.svg" for stem in figure_stems()],
    output:
        "<results>/report.html",
    log:
        "<logs>/report/build_report.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=fingerprint("evomix.report.build"),
    message:
        "Building the report"
    shell:
        "python -m evomix build-report {output} 2>&1 | tee {log}"
