"""The report of the study for readers: one self-contained HTML file, tables, and a card of every evolved variant."""


rule build_report:
    """Write the report that a reader opens first: verdicts, evidence, mechanisms, costs."""
    input:
        report_inputs(),
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


rule write_tables:
    """Write all tables of the study for people and for spreadsheets."""
    input:
        report_inputs(),
    output:
        directory("<results>/tables"),
    log:
        "<logs>/report/write_tables.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=fingerprint("evomix.report.write_table"),
        results=lambda wildcards, output: str(Path(output[0]).parent),
    message:
        "Writing the tables"
    shell:
        "python -m evomix write-tables {output} --results {params.results} 2>&1 | tee {log}"


rule write_card:
    """Write the card of what a framework judges: what it is, is worth, costs, and where it fails."""
    input:
        card_inputs,
    output:
        "<results>/cards/{framework}.md",
    log:
        "<logs>/report/write_card_{framework}.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=fingerprint("evomix.report.card"),
        results=lambda wildcards, output: str(Path(output[0]).parents[1]),
    message:
        "Card of {wildcards.framework}"
    shell:
        "python -m evomix write-card {output} --framework {wildcards.framework} --results {params.results} 2>&1 | tee {log}"
