"""Hyper-parameters of each variant, with the same design of trials and so the same budget for all."""


rule design_trials:
    """Ask Optuna for all trials up front: a space-filling design, the same for every variant."""
    input:
        section("tuning"),
    output:
        "<results>/tuning/design.json",
    log:
        "<logs>/tuning/design_trials.log",
    localrule: True
    conda:
        "../../envs/train.yaml"
    params:
        code=fingerprint("evomix.tuning.design"),
    message:
        "Designing the tuning trials"
    shell:
        "python -m evomix design-trials {input} {output} 2>&1 | tee {log}"


rule run_trials:
    """Train one worker's share of the trials."""
    input:
        design="<results>/tuning/design.json",
        section=section("tuning"),
        training=section("training"),
        shape=section(f"size-{study.tuning.size}"),
        mechanism="<results>/mechanisms/{framework}/{variant}.py",
        stats="<results>/corpus/stats.json",
    output:
        "<results>/tuning/{framework}/{variant}/worker_{worker}.json",
    log:
        "<logs>/tuning/{framework}/{variant}/worker_{worker}.log",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: resources.trials(study).memory_mb(attempt),
        runtime=lambda wildcards, attempt: resources.trials(study).minutes(
            attempt, LONGEST
        ),
        gpu=GPUS,
    params:
        code=training_code("evomix.tuning.trials"),
        workers=study.tuning.workers,
    message:
        "Tuning {wildcards.variant} of {wildcards.framework}, share {wildcards.worker}"
    shell:
        "python -m evomix run-trials {input.design} --section {input.section} --training {input.training} "
        "--size {input.shape} --mechanism {input.mechanism} --stats {input.stats} --framework {wildcards.framework} "
        "--variant {wildcards.variant} --worker {wildcards.worker} --workers {params.workers} {output} 2>&1 | tee {log}"


rule choose_hyperparameters:
    """Take the optimum of a response surface, or the reference's unless the trials show that it differs."""
    input:
        section=section("tuning"),
        policy=section("policy"),
        design="<results>/tuning/design.json",
        workers=expand(
            "<results>/tuning/{{framework}}/{{variant}}/worker_{worker}.json",
            worker=WORKERS,
        ),
        reference=tuned_reference,
    output:
        best="<results>/tuning/{framework}/{variant}/best.json",
        trials="<results>/tuning/{framework}/{variant}/trials.parquet",
        study="<results>/tuning/{framework}/{variant}/study.journal",
    log:
        "<logs>/tuning/{framework}/{variant}/choose_hyperparameters.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=fingerprint("evomix.tuning.choice"),
        reference=lambda wildcards, input: [
            f"--reference {path}" for path in input.reference[:1]
        ],
    message:
        "Choosing hyper-parameters of {wildcards.variant} of {wildcards.framework}"
    shell:
        "python -m evomix choose-hyperparameters {input.workers} --section {input.section} --policy {input.policy} "
        "--design {input.design} {params.reference} --output {output.best} 2>&1 | tee {log}"
