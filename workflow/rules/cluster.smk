"""What a cluster asks of the workflow beside its profile: guards before the first job, and a check of the site."""

from evomix.cluster import guard


onstart:
    if workflow.non_local_exec:
        try:
            guard.require_no_key()
            guard.require_no_jobs(Path.cwd())
        except UserError as error:
            raise WorkflowError(str(error)) from None


rule probe_light:
    """A tiny job with the profile's default resources."""
    output:
        "<results>/cluster/light.json",
    log:
        "<logs>/cluster/light.log",
    conda:
        "../../envs/train.yaml"
    message:
        "Probing the cluster: light"
    shell:
        "python -m evomix probe-node light {output} 2>&1 | tee {log}"


rule probe_heavy:
    """A tiny job with the resources of a training, or of judging a candidate."""
    output:
        "<results>/cluster/{kind}.json",
    log:
        "<logs>/cluster/{kind}.log",
    wildcard_constraints:
        kind="training|candidate",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards: probed(wildcards.kind).memory_mb(),
        runtime=lambda wildcards: probed(wildcards.kind).minutes(1, LONGEST),
        gpu=GPUS,
    message:
        "Probing the cluster: {wildcards.kind}"
    shell:
        "python -m evomix probe-node {wildcards.kind} {output} --gpus {resources.gpu} 2>&1 | tee {log}"


rule probe_pack:
    """Second part of a packed job; the first is `probe_light` on the same node."""
    input:
        "<results>/cluster/part.json",
    output:
        "<results>/cluster/packed.json",
    log:
        "<logs>/cluster/packed.log",
    group:
        "probe"
    conda:
        "../../envs/train.yaml"
    message:
        "Probing the cluster: packed"
    shell:
        "python -m evomix probe-node packed {output} 2>&1 | tee {log}"


rule probe_part:
    """First part of a packed job."""
    output:
        "<results>/cluster/part.json",
    log:
        "<logs>/cluster/part.log",
    group:
        "probe"
    conda:
        "../../envs/train.yaml"
    message:
        "Probing the cluster: first part of a pack"
    shell:
        "python -m evomix probe-node part {output} 2>&1 | tee {log}"


rule check_cluster:
    """One tiny job of every kind; `make check-cluster` runs it and says in words what is wrong."""
    input:
        expand(
            "<results>/cluster/{kind}.json",
            kind=["light", "training", "candidate", "packed"],
        ),
    localrule: True
