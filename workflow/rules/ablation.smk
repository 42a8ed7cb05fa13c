"""Ablation of what evolved: every edit between the pair is taken back alone (and added alone) and trained anew."""


rule split_edits:
    """Split the difference of the pair into edits that stand alone, and gate a mechanism without each of them."""
    input:
        section=section("edits"),
        spec="<results>/evolution/{framework}/candidates.spec.json",
        pair=lambda wildcards: expand(
            "<results>/mechanisms/{framework}/{variant}.py",
            framework=wildcards.framework,
            variant=PAIRS[wildcards.framework],
        ),
    output:
        edits="<results>/ablation/{framework}/edits.json",
        variants=directory("<results>/ablation/{framework}/variants"),
    log:
        "<logs>/ablation/{framework}/split_edits.log",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: resources.splitting(study).memory_mb(attempt),
        runtime=lambda wildcards, attempt: resources.splitting(study).minutes(
            attempt, LONGEST
        ),
    params:
        code=fingerprint(
            "evomix.ablation.split", "evomix.gate.gate", "evomix.gate.worker"
        ),
    message:
        "Splitting what evolved in {wildcards.framework}"
    shell:
        "python -m evomix split-edits {input.pair} {output.edits} --variants {output.variants} --section {input.section} "
        "--spec {input.spec} --framework {wildcards.framework} 2>&1 | tee {log}"


rule train_edits:
    """Train one worker's share of the ablated mechanisms on the validation's seeds."""
    input:
        edits="<results>/ablation/{framework}/edits.json",
        variants="<results>/ablation/{framework}/variants",
        section=section("ablation"),
        training=section("training"),
        shape=section(f"size-{study.validation.size}"),
        stats="<results>/corpus/stats.json",
        best=lambda wildcards: [
            tuning(wildcards.framework, variant)
            for variant in PAIRS[wildcards.framework]
        ],
    output:
        "<results>/ablation/{framework}/worker_{worker}.json",
    log:
        "<logs>/ablation/{framework}/worker_{worker}.log",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: resources.ablated(study).memory_mb(attempt),
        runtime=lambda wildcards, attempt: resources.ablated(study).minutes(
            attempt, LONGEST
        ),
        gpu=GPUS,
    params:
        code=training_code("evomix.ablation.trainings"),
        workers=study.ablation.workers,
    message:
        "Training without single edits of {wildcards.framework}, share {wildcards.worker}"
    shell:
        "python -m evomix train-edits {input.edits} {output} --variants {input.variants} --section {input.section} "
        "--training {input.training} --size {input.shape} --stats {input.stats} --reference-best {input.best[0]} "
        "--best {input.best[1]} --framework {wildcards.framework} --worker {wildcards.worker} "
        "--workers {params.workers} 2>&1 | tee {log}"


rule measure_edits:
    """Say what each edit is worth: paired differences to the validation's runs."""
    input:
        section=section("ablation"),
        edits="<results>/ablation/{framework}/edits.json",
        workers=expand(
            "<results>/ablation/{{framework}}/worker_{worker}.json",
            worker=range(study.ablation.workers),
        ),
        summaries=lambda wildcards: summaries(
            wildcards.framework,
            PAIRS[wildcards.framework],
            study.validation.size,
            study.validation.seeds[: study.ablation.seeds],
        ),
    output:
        "<results>/ablation/{framework}.json",
    log:
        "<logs>/ablation/{framework}/measure_edits.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=fingerprint("evomix.ablation.effects"),
        workers=lambda wildcards, input: " ".join(
            f"--worker {path}" for path in input.workers
        ),
    message:
        "Effects of the edits of {wildcards.framework}"
    shell:
        "python -m evomix measure-edits {input.summaries} --edits {input.edits} {params.workers} "
        "--section {input.section} --output {output} 2>&1 | tee {log}"
