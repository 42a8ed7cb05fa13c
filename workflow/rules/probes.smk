"""Probes beyond the loss on text: what both variants of a framework can and cannot do, and how they bear length."""


rule write_probe_data:
    """Draw the sequences of every task: training and held-out ones from streams of their own."""
    input:
        section("probes"),
    output:
        expand(
            "<results>/probes/data/{task}/{name}",
            task=[task.name for task in study.probes.tasks],
            name=["train.bin", "train.json", "test.bin", "test.json", "stats.json"],
        ),
    log:
        "<logs>/probes/write_probe_data.log",
    conda:
        "../../envs/train.yaml"
    params:
        code=fingerprint("evomix.probes.tasks"),
        folder=lambda wildcards, output: str(Path(output[0]).parents[1]),
    message:
        "Sequences of the probes"
    shell:
        "python -m evomix write-probe-data --section {input} --output {params.folder} 2>&1 | tee {log}"


rule run_probes:
    """Train one variant on every task and seed, in the sandbox; a killed job keeps what it has finished."""
    input:
        section=section("probes"),
        training=section("training"),
        data=rules.write_probe_data.output,
        mechanism="<results>/mechanisms/{framework}/{variant}.py",
        certificate="<results>/mechanisms/{framework}/{variant}.certificate.json",
    output:
        "<results>/probes/runs/{framework}/{variant}.json",
    log:
        "<logs>/probes/{framework}/{variant}/run_probes.log",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: resources.probes(study).memory_mb(attempt),
        runtime=lambda wildcards, attempt: resources.probes(study).minutes(
            attempt, LONGEST
        ),
        gpu=GPUS,
    params:
        code=training_code("evomix.probes.runs"),
        data=lambda wildcards, input: str(Path(input.data[0]).parents[1]),
    message:
        "Probing {wildcards.variant} of {wildcards.framework}"
    shell:
        "python -m evomix run-probes --section {input.section} --training {input.training} --data {params.data} "
        "--framework {wildcards.framework} --variant {wildcards.variant} --mechanism {input.mechanism} "
        "--output {output} 2>&1 | tee {log}"


rule read_lengths:
    """Let the trained models of the validation read rows longer than they were trained on."""
    input:
        section=section("probe-lengths"),
        specs=runs("spec.json"),
        summaries=runs("summary.json"),
        weights=runs("model.safetensors"),
    output:
        "<results>/probes/lengths/{framework}/{variant}.json",
    log:
        "<logs>/probes/{framework}/{variant}/read_lengths.log",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: resources.longer_contexts(study).memory_mb(
            attempt
        ),
        runtime=lambda wildcards, attempt: resources.longer_contexts(study).minutes(
            attempt, LONGEST
        ),
        gpu=GPUS,
    params:
        code=training_code("evomix.probes.lengths", "evomix.probes.reading"),
    message:
        "Longer contexts for {wildcards.variant} of {wildcards.framework}"
    shell:
        "python -m evomix read-lengths {input.specs} --section {input.section} --output {output} 2>&1 | tee {log}"


rule summarise_probes:
    """Compare both variants of a framework on every task and at every length."""
    input:
        section=section("probes"),
        policy=section("policy"),
        runs=lambda wildcards: expand(
            "<results>/probes/runs/{framework}/{variant}.json",
            framework=wildcards.framework,
            variant=PAIRS[wildcards.framework],
        ),
        lengths=lambda wildcards: expand(
            "<results>/probes/lengths/{framework}/{variant}.json",
            framework=wildcards.framework,
            variant=PAIRS[wildcards.framework],
        ),
    output:
        "<results>/probes/{framework}.json",
    log:
        "<logs>/probes/{framework}/summarise_probes.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=fingerprint("evomix.probes.summary"),
        pair=lambda wildcards: PAIRS[wildcards.framework],
    message:
        "What the probes of {wildcards.framework} say"
    shell:
        "python -m evomix summarise-probes --section {input.section} --policy {input.policy} --pair {params.pair} "
        "--runs {input.runs} --lengths {input.lengths} --output {output} 2>&1 | tee {log}"
