"""Full-length trainings of frozen variants: a spec decides everything, `train` takes the spec and nothing else."""


rule write_run_spec:
    """Write the spec of one run."""
    input:
        training=section("training"),
        shape=section("size-{size}"),
        stats="<results>/corpus/stats.json",
        mechanism="<results>/mechanisms/{framework}/{variant}.py",
        best=lambda wildcards: tuning(wildcards.framework, wildcards.variant),
    output:
        "<results>/training/{framework}/{variant}/{size}/seed_{seed}/spec.json",
    log:
        "<logs>/training/{framework}/{variant}/{size}/seed_{seed}/write_run_spec.log",
    localrule: True
    conda:
        "../../envs/driver.yaml"
    params:
        code=fingerprint("evomix.specs"),
    message:
        "Spec of {wildcards.framework} {wildcards.variant} {wildcards.size}, seed {wildcards.seed}"
    shell:
        "python -m evomix write-run-spec --framework {wildcards.framework} --variant {wildcards.variant} "
        "--size-name {wildcards.size} --seed {wildcards.seed} --mechanism {input.mechanism} --stats {input.stats} "
        "--training {input.training} --size {input.shape} --best {input.best} {output} 2>&1 | tee {log}"


rule train:
    """Train one run in the sandbox; a killed run resumes from its checkpoint."""
    input:
        spec="<results>/training/{framework}/{variant}/{size}/seed_{seed}/spec.json",
        certificate="<results>/mechanisms/{framework}/{variant}.certificate.json",
    output:
        summary="<results>/training/{framework}/{variant}/{size}/seed_{seed}/summary.json",
        curve="<results>/training/{framework}/{variant}/{size}/seed_{seed}/curve.parquet",
        weights="<results>/training/{framework}/{variant}/{size}/seed_{seed}/model.safetensors",
        timing="<results>/training/{framework}/{variant}/{size}/seed_{seed}/timing.json",
    log:
        "<logs>/training/{framework}/{variant}/{size}/seed_{seed}/train.log",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: resources.training(
            study, wildcards.size
        ).memory_mb(attempt),
        runtime=lambda wildcards, attempt: resources.training(
            study, wildcards.size
        ).minutes(attempt, LONGEST),
        gpu=GPUS,
    params:
        code=training_code(),
    message:
        "Training {wildcards.framework} {wildcards.variant} {wildcards.size}, seed {wildcards.seed}"
    shell:
        "python -m evomix train {input.spec} 2>&1 | tee {log}"


rule rescore:
    """Measure a variant's final losses, at all sizes, again in a trusted process, out of the reach of its code."""
    input:
        specs=runs("spec.json", across_sizes=True),
        summaries=runs("summary.json", across_sizes=True),
        weights=runs("model.safetensors", across_sizes=True),
    output:
        "<results>/rescoring/{framework}/{variant}.json",
    log:
        "<logs>/rescoring/{framework}/{variant}.log",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: resources.rescoring(study).memory_mb(attempt),
        runtime=lambda wildcards, attempt: resources.rescoring(study).minutes(
            attempt, LONGEST
        ),
        gpu=GPUS,
    params:
        code=training_code("evomix.gate.rescore", "evomix.gate.mixing"),
    message:
        "Re-measuring the losses of {wildcards.variant} of {wildcards.framework}"
    shell:
        "python -m evomix rescore {input.specs} --output {output} 2>&1 | tee {log}"
