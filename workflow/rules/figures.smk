"""Figures: one file each, drawn from artifacts alone; the catalogue says what each one reads."""


rule materialise_mixing:
    """Run a trained variant on one real sentence in the sandbox and keep its mixing matrices."""
    input:
        spec=f"<results>/training/{{framework}}/{{variant}}/{study.validation.size}/seed_{study.validation.seeds[0]}/spec.json",
        weights=f"<results>/training/{{framework}}/{{variant}}/{study.validation.size}/seed_{study.validation.seeds[0]}/model.safetensors",
        tokenizer="<results>/corpus/tokenizer.json",
        documents="<results>/corpus/documents/test.jsonl",
    output:
        "<results>/mixing/{framework}/{variant}.safetensors",
    log:
        "<logs>/mixing/{framework}/{variant}.log",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        code=fingerprint("evomix.model.materialise"),
    message:
        "Mixing matrices of {wildcards.variant} of {wildcards.framework}"
    shell:
        "python -m evomix materialise-mixing {input.spec} {input.weights} --tokenizer {input.tokenizer} "
        "--documents {input.documents} --output {output} 2>&1 | tee {log}"


rule draw_figure:
    """Draw one figure as vector, print and screen file, with the numbers behind it."""
    input:
        figure_inputs,
    output:
        report(
            "<results>/figures/{view}/{figure}.svg",
            caption="../report/figure.rst",
            category="{view}",
            labels={"figure": "{figure}"},
        ),
        multiext("<results>/figures/{view}/{figure}", ".pdf", ".png", ".csv"),
    log:
        "<logs>/figures/{view}/{figure}.log",
    wildcard_constraints:
        figure="|".join(catalogue.names()),
        view="|".join([catalogue.STUDY, *study.frameworks]),
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=lambda wildcards: fingerprint(f"evomix.figures.{wildcards.figure}"),
        results=lambda wildcards, output: str(Path(output[0]).parents[2]),
    message:
        "Figure {wildcards.figure} ({wildcards.view})"
    shell:
        "python -m evomix draw-figure {wildcards.figure} --view {wildcards.view} --results {params.results} 2>&1 | tee {log}"
