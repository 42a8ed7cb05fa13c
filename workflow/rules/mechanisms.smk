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
        mem_mb=4000,
        runtime=30,
    params:
        code=fingerprint("evomix.gate.gate", "evomix.gate.worker"),
        budgets=lambda wildcards, input: f"--spec {input.spec}" if input.spec else "",
    message:
        "Certifying {wildcards.variant} of {wildcards.framework}"
    shell:
        "python -m evomix certify {input.mechanism} {output} --framework {wildcards.framework} "
        "{params.budgets} 2>&1 | tee {log}"
