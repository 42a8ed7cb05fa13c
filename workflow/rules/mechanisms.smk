"""A variant is a frozen Python file with a certificate; every later phase treats all variants alike."""


rule freeze_standard:
    """The framework's standard member of the gallery is the reference variant."""
    input:
        "src/evomix/mechanisms/{framework}/softmax.py",
    output:
        "<results>/mechanisms/{framework}/standard.py",
    log:
        "<logs>/mechanisms/{framework}/freeze_standard.log",
    localrule: True
    conda:
        "../../envs/driver.yaml"
    message:
        "Freezing the standard of {wildcards.framework}"
    shell:
        "cp {input} {output} 2> {log}"


rule freeze_member:
    """An expert member of the gallery becomes a variant: opponent, seed of a search, or row of the gallery's table."""
    input:
        "src/evomix/mechanisms/{framework}/{member}.py",
    output:
        "<results>/mechanisms/{framework}/{member}.py",
    log:
        "<logs>/mechanisms/{framework}/freeze_{member}.log",
    localrule: True
    conda:
        "../../envs/driver.yaml"
    message:
        "Freezing {wildcards.member} of {wildcards.framework}"
    shell:
        "cp {input} {output} 2> {log}"


rule freeze_evolved:
    """The mechanism selected by the first arm of the search is the evolved variant."""
    input:
        f"<results>/evolution/{{framework}}/{ARMS[0]}/selected.py",
    output:
        "<results>/mechanisms/{framework}/evolved.py",
    log:
        "<logs>/mechanisms/{framework}/freeze_evolved.log",
    localrule: True
    conda:
        "../../envs/driver.yaml"
    message:
        "Freezing the evolved variant of {wildcards.framework}"
    shell:
        "cp {input} {output} 2> {log}"


rule certify:
    """Measure whether a variant belongs to its framework; the numbers stay with it."""
    input:
        mechanism="<results>/mechanisms/{framework}/{variant}.py",
        spec=budgets,
    output:
        "<results>/mechanisms/{framework}/{variant}.certificate.json",
    log:
        "<logs>/mechanisms/{framework}/certify_{variant}.log",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        code=fingerprint("evomix.gate.gate", "evomix.gate.worker"),
        budgets=lambda wildcards, input: f"--spec {input.spec}" if input.spec else "",
    message:
        "Certifying {wildcards.variant} of {wildcards.framework}"
    shell:
        "python -m evomix certify {input.mechanism} {output} --framework {wildcards.framework} "
        "{params.budgets} 2>&1 | tee {log}"


rule certify_trained:
    """Repeat the gate and the certificate on trained weights: gates that start at zero hide leaks."""
    input:
        mechanism="<results>/mechanisms/{framework}/{variant}.py",
        spec="<results>/evolution/{framework}/candidates.spec.json",
        weights=f"<results>/training/{{framework}}/{{variant}}/{SMALLEST}/seed_{study.scaling.seeds[0]}/model.safetensors",
    output:
        "<results>/mechanisms/{framework}/{variant}.trained.certificate.json",
    log:
        "<logs>/mechanisms/{framework}/certify_trained_{variant}.log",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        code=fingerprint("evomix.gate.gate", "evomix.gate.worker"),
    message:
        "Certifying trained {wildcards.variant} of {wildcards.framework}"
    shell:
        "python -m evomix certify {input.mechanism} {output} --framework {wildcards.framework} "
        "--spec {input.spec} --weights {input.weights} 2>&1 | tee {log}"


rule write_member_spec:
    """Write the spec by which a gallery member is trained: tuned as the standard is, measured on the search shard."""
    input:
        section=section("gallery"),
        training=section("training"),
        shape=section(f"size-{study.gallery.size}"),
        stats="<results>/corpus/stats.json",
        mechanism="<results>/mechanisms/{framework}/{member}.py",
        best="<results>/tuning/{framework}/standard/best.json",
    output:
        "<results>/gallery/{framework}/{member}/spec.json",
    log:
        "<logs>/gallery/{framework}/{member}/write_member_spec.log",
    localrule: True
    conda:
        "../../envs/driver.yaml"
    params:
        code=fingerprint("evomix.specs"),
    message:
        "Spec of gallery member {wildcards.member} of {wildcards.framework}"
    shell:
        "python -m evomix write-member-spec --framework {wildcards.framework} --variant {wildcards.member} "
        "--section {input.section} --mechanism {input.mechanism} --stats {input.stats} --training {input.training} "
        "--size {input.shape} --best {input.best} {output} 2>&1 | tee {log}"


rule train_member:
    """Train a gallery member in the sandbox."""
    input:
        "<results>/gallery/{framework}/{member}/spec.json",
    output:
        summary="<results>/gallery/{framework}/{member}/summary.json",
        timing="<results>/gallery/{framework}/{member}/timing.json",
    log:
        "<logs>/gallery/{framework}/{member}/train_member.log",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: resources.member(study).memory_mb(attempt),
        runtime=lambda wildcards, attempt: resources.member(study).minutes(
            attempt, LONGEST
        ),
        gpu=GPUS,
    params:
        code=training_code(),
    message:
        "Training gallery member {wildcards.member} of {wildcards.framework}"
    shell:
        "python -m evomix train {input} 2>&1 | tee {log}"


rule tabulate_gallery:
    """Set all gallery members side by side: what each costs, what it reaches, and both against softmax."""
    input:
        section=section("gallery"),
        policy=section("policy"),
        stats="<results>/corpus/stats.json",
        summaries=[
            f"<results>/gallery/{framework}/{member}/summary.json"
            for framework, member in GALLERY
        ],
        timings=[
            f"<results>/gallery/{framework}/{member}/timing.json"
            for framework, member in GALLERY
        ],
    output:
        table="<results>/gallery.json",
        timing="<results>/gallery_timing.json",
    log:
        "<logs>/gallery/tabulate_gallery.log",
    conda:
        "../../envs/driver.yaml"
    params:
        code=fingerprint("evomix.mechanisms.table"),
    message:
        "Table of the gallery"
    shell:
        "python -m evomix tabulate-gallery {input.summaries} --section {input.section} --policy {input.policy} --stats {input.stats} "
        "--output {output.table} 2>&1 | tee {log}"
