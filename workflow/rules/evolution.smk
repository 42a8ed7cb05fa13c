"""The search of each framework: waves of propose, evaluate, tell; then finalists re-ranked on fresh seeds."""


rule write_search_spec:
    """Write how candidates (or the baseline, or finalists) of a framework are judged."""
    input:
        role=section("search-{role}"),
        judgement=section("judgement"),
        training=section("training"),
        sizes=[section(f"size-{size}") for size in study.evolution.sizes],
        stats="<results>/corpus/stats.json",
        best="<results>/tuning/{framework}/standard/best.json",
    output:
        "<results>/evolution/{framework}/{role}.spec.json",
    log:
        "<logs>/evolution/{framework}/write_search_spec_{role}.log",
    wildcard_constraints:
        role="candidates|baseline|finalists",
    localrule: True
    conda:
        "../../envs/driver.yaml"
    params:
        code=fingerprint("evomix.specs"),
    message:
        "How the {wildcards.role} of {wildcards.framework} are judged"
    shell:
        "python -m evomix write-search-spec --framework {wildcards.framework} --role {input.role} "
        "--judgement {input.judgement} --training {input.training} --stats {input.stats} --best {input.best} "
        "--output {output} {input.sizes} 2>&1 | tee {log}"


rule evaluate_standard:
    """Evaluate the standard as a candidate is: repeats for the noise, or the reference of the finalists."""
    input:
        spec="<results>/evolution/{framework}/{role}.spec.json",
        candidate="<results>/mechanisms/{framework}/standard.py",
    output:
        "<results>/evolution/{framework}/{role}/evaluation.json",
    log:
        "<logs>/evolution/{framework}/evaluate_standard_{role}.log",
    wildcard_constraints:
        role="baseline|finalists",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: resources.judgement(
            study, wildcards.role
        ).memory_mb(attempt),
        runtime=lambda wildcards, attempt: resources.judgement(
            study, wildcards.role
        ).minutes(attempt, LONGEST),
        gpu=GPUS,
    params:
        code=training_code(
            "evomix.evolution.evaluate", "evomix.gate.gate", "evomix.gate.worker"
        ),
    message:
        "Evaluating the standard of {wildcards.framework} for the {wildcards.role}"
    shell:
        "python -m evomix evaluate {input.candidate} --spec {input.spec} --output {output} 2>&1 | tee {log}"


rule evaluate_member:
    """Evaluate a gallery member that seeds the search as a candidate is."""
    input:
        spec="<results>/evolution/{framework}/candidates.spec.json",
        baseline="<results>/evolution/{framework}/baseline/evaluation.json",
        candidate="<results>/mechanisms/{framework}/{member}.py",
    output:
        evaluation="<results>/evolution/{framework}/seeds/{member}/evaluation.json",
        gate="<results>/evolution/{framework}/seeds/{member}/gate.json",
    log:
        "<logs>/evolution/{framework}/evaluate_member_{member}.log",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: CANDIDATE.memory_mb(attempt),
        runtime=lambda wildcards, attempt: CANDIDATE.minutes(attempt, LONGEST),
        gpu=GPUS,
    params:
        code=training_code(
            "evomix.evolution.evaluate", "evomix.gate.gate", "evomix.gate.worker"
        ),
    message:
        "Evaluating {wildcards.member} of {wildcards.framework} as a seed of the search"
    shell:
        "python -m evomix evaluate {input.candidate} --spec {input.spec} --baseline {input.baseline} "
        "--output {output.evaluation} 2>&1 | tee {log}"


rule seed_population:
    """Start an arm's OpenEvolve database from the standard and the gallery members that the config names."""
    input:
        section=section("evolution"),
        mechanisms=seeds("<results>/mechanisms/{framework}/{member}.py"),
        standard="<results>/mechanisms/{framework}/standard.py",
        baseline="<results>/evolution/{framework}/baseline/evaluation.json",
        evaluations=seeds(
            "<results>/evolution/{framework}/seeds/{member}/evaluation.json"
        ),
    output:
        population=directory("<results>/evolution/{framework}/{arm}/wave_0/population"),
        tell="<results>/evolution/{framework}/{arm}/wave_0/tell.json",
    log:
        "<logs>/evolution/{framework}/{arm}/seed_population.log",
    localrule: True
    conda:
        "../../envs/driver.yaml"
    params:
        code=fingerprint("evomix.evolution.seed"),
        evaluations=lambda wildcards, input: " ".join(
            f"--evaluation {path}" for path in [input.baseline, *input.evaluations]
        ),
    message:
        "Seeding arm {wildcards.arm} of {wildcards.framework}"
    shell:
        "python -m evomix seed-population {input.standard} {input.mechanisms} {params.evaluations} --section {input.section} "
        "--framework {wildcards.framework} --arm {wildcards.arm} --output {output.population} 2>&1 | tee {log}"


rule propose:
    """Propose the candidates of one wave; never executes them, and is alone in seeing the key and the network."""
    input:
        section=section("evolution"),
        spec="<results>/evolution/{framework}/candidates.spec.json",
        population=previous("population"),
        tell=previous("tell.json"),
    output:
        expand(
            "<results>/evolution/{{framework}}/{{arm}}/wave_{{wave}}/slot_{slot}/proposal.json",
            slot=SLOTS,
        ),
        expand(
            "<results>/evolution/{{framework}}/{{arm}}/wave_{{wave}}/slot_{slot}/candidate.py",
            slot=SLOTS,
        ),
    log:
        "<logs>/evolution/{framework}/{arm}/wave_{wave}/propose.log",
    wildcard_constraints:
        wave=r"[1-9]\d*",
    localrule: True
    conda:
        "../../envs/driver.yaml"
    params:
        code=fingerprint("evomix.evolution.propose"),
        folder=lambda wildcards, output: str(Path(output[0]).parents[1]),
    message:
        "Proposing wave {wildcards.wave} of {wildcards.framework}, arm {wildcards.arm}"
    shell:
        "python -m evomix propose {input.population} --section {input.section} --spec {input.spec} "
        "--arm {wildcards.arm} --wave {wildcards.wave} --output {params.folder} 2>&1 | tee {log}"


rule evaluate:
    """Gate a candidate, train it at full length over all sizes in the sandbox, and score it."""
    input:
        spec="<results>/evolution/{framework}/candidates.spec.json",
        baseline="<results>/evolution/{framework}/baseline/evaluation.json",
        candidate="<results>/evolution/{framework}/{arm}/wave_{wave}/slot_{slot}/candidate.py",
        proposal="<results>/evolution/{framework}/{arm}/wave_{wave}/slot_{slot}/proposal.json",
    output:
        evaluation="<results>/evolution/{framework}/{arm}/wave_{wave}/slot_{slot}/evaluation.json",
        gate="<results>/evolution/{framework}/{arm}/wave_{wave}/slot_{slot}/gate.json",
    log:
        "<logs>/evolution/{framework}/{arm}/wave_{wave}/slot_{slot}/evaluate.log",
    wildcard_constraints:
        wave=r"[1-9]\d*",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: CANDIDATE.memory_mb(attempt),
        runtime=lambda wildcards, attempt: CANDIDATE.minutes(attempt, LONGEST),
        gpu=GPUS,
    params:
        code=training_code(
            "evomix.evolution.evaluate", "evomix.gate.gate", "evomix.gate.worker"
        ),
    message:
        "Evaluating {wildcards.framework} {wildcards.arm}, wave {wildcards.wave}, slot {wildcards.slot}"
    shell:
        "python -m evomix evaluate {input.candidate} --spec {input.spec} --baseline {input.baseline} "
        "--output {output.evaluation} 2>&1 | tee {log}"


rule tell:
    """Add one wave's evaluations to the database, in the order of the slots."""
    input:
        section=section("evolution"),
        population=previous("population"),
        previous=previous("tell.json"),
        evaluations=expand(
            "<results>/evolution/{{framework}}/{{arm}}/wave_{{wave}}/slot_{slot}/evaluation.json",
            slot=SLOTS,
        ),
    output:
        population=directory(
            "<results>/evolution/{framework}/{arm}/wave_{wave}/population"
        ),
        tell="<results>/evolution/{framework}/{arm}/wave_{wave}/tell.json",
    log:
        "<logs>/evolution/{framework}/{arm}/wave_{wave}/tell.log",
    wildcard_constraints:
        wave=r"[1-9]\d*",
    localrule: True
    conda:
        "../../envs/driver.yaml"
    params:
        code=fingerprint("evomix.evolution.tell"),
    message:
        "Telling wave {wildcards.wave} of {wildcards.framework}, arm {wildcards.arm}"
    shell:
        "python -m evomix tell {input.evaluations} --section {input.section} --population {input.population} "
        "--framework {wildcards.framework} --arm {wildcards.arm} --wave {wildcards.wave} "
        "--output {output.population} 2>&1 | tee {log}"


rule summarise_search:
    """Write an arm's history and lineage."""
    input:
        section=section("policy"),
        baseline="<results>/evolution/{framework}/baseline/evaluation.json",
        tell=f"<results>/evolution/{{framework}}/{{arm}}/wave_{LAST_WAVE}/tell.json",
        evaluations=search_evaluations(),
    output:
        history="<results>/evolution/{framework}/{arm}/history.parquet",
        lineage="<results>/evolution/{framework}/{arm}/lineage.json",
        diagram="<results>/evolution/{framework}/{arm}/lineage.mmd",
        readable="<results>/evolution/{framework}/{arm}/lineage.md",
    log:
        "<logs>/evolution/{framework}/{arm}/summarise_search.log",
    localrule: True
    conda:
        "../../envs/driver.yaml"
    params:
        code=fingerprint("evomix.evolution.lineage"),
    message:
        "Summarising arm {wildcards.arm} of {wildcards.framework}"
    shell:
        "python -m evomix summarise-search {input.evaluations} --section {input.section} --tell {input.tell} "
        "--output {output.history} 2>&1 | tee {log}"


rule shortlist:
    """List the best accepted candidates of an arm."""
    input:
        section=section("finalists"),
        spec="<results>/evolution/{framework}/candidates.spec.json",
        tell=f"<results>/evolution/{{framework}}/{{arm}}/wave_{LAST_WAVE}/tell.json",
        evaluations=search_evaluations(),
    output:
        "<results>/evolution/{framework}/{arm}/finalists.json",
    log:
        "<logs>/evolution/{framework}/{arm}/shortlist.log",
    localrule: True
    conda:
        "../../envs/driver.yaml"
    params:
        code=fingerprint("evomix.evolution.freeze"),
    message:
        "Short list of arm {wildcards.arm} of {wildcards.framework}"
    shell:
        "python -m evomix shortlist {input.evaluations} --section {input.section} --spec {input.spec} --tell {input.tell} "
        "--output {output} 2>&1 | tee {log}"


rule rerank:
    """Evaluate one finalist on fresh seeds and the selection shard, and audit its largest run on real text."""
    input:
        spec="<results>/evolution/{framework}/finalists.spec.json",
        baseline="<results>/evolution/{framework}/finalists/evaluation.json",
        finalists="<results>/evolution/{framework}/{arm}/finalists.json",
    output:
        "<results>/evolution/{framework}/{arm}/finalist_{rank}/evaluation.json",
    log:
        "<logs>/evolution/{framework}/{arm}/rerank_{rank}.log",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: FINALIST.memory_mb(attempt),
        runtime=lambda wildcards, attempt: FINALIST.minutes(attempt, LONGEST),
        gpu=GPUS,
    params:
        code=training_code(
            "evomix.evolution.freeze",
            "evomix.gate.gate",
            "evomix.gate.worker",
            "evomix.gate.rescore",
            "evomix.gate.mixing",
        ),
    message:
        "Re-ranking finalist {wildcards.rank} of {wildcards.framework}, arm {wildcards.arm}"
    shell:
        "python -m evomix rerank {input.finalists} --rank {wildcards.rank} --spec {input.spec} "
        "--baseline {input.baseline} --output {output} 2>&1 | tee {log}"


rule select:
    """Freeze the best re-ranked finalist of an arm, or say that nothing was found."""
    input:
        section=section("policy"),
        finalists="<results>/evolution/{framework}/{arm}/finalists.json",
        spec="<results>/evolution/{framework}/finalists.spec.json",
        standard="<results>/mechanisms/{framework}/standard.py",
        evaluations=expand(
            "<results>/evolution/{{framework}}/{{arm}}/finalist_{rank}/evaluation.json",
            rank=FINALISTS,
        ),
    output:
        selection="<results>/evolution/{framework}/{arm}/selection.json",
        mechanism="<results>/evolution/{framework}/{arm}/selected.py",
    log:
        "<logs>/evolution/{framework}/{arm}/select.log",
    localrule: True
    conda:
        "../../envs/driver.yaml"
    params:
        code=fingerprint("evomix.evolution.freeze"),
    message:
        "Selecting from arm {wildcards.arm} of {wildcards.framework}"
    shell:
        "python -m evomix select {input.evaluations} --section {input.section} --finalists {input.finalists} --spec {input.spec} "
        "--standard {input.standard} --mechanism {output.mechanism} --output {output.selection} 2>&1 | tee {log}"


rule measure_horizon:
    """Would a shorter training have chosen another winner? From the curves of all trained candidates."""
    input:
        section=section("policy"),
        evaluations=search_evaluations(),
    output:
        "<results>/evolution/{framework}/{arm}/horizon.json",
    log:
        "<logs>/evolution/{framework}/{arm}/measure_horizon.log",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=fingerprint("evomix.statistics.horizon"),
        size=study.evolution.sizes[-1],
    message:
        "Horizon fidelity of arm {wildcards.arm} of {wildcards.framework}"
    shell:
        "python -m evomix measure-horizon {input.evaluations} --section {input.section} --size-name {params.size} "
        "--output {output} 2>&1 | tee {log}"
