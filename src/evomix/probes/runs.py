"""The probes of one variant: every task and seed is an ordinary run of the engine, in the sandbox, resumable.

A killed job keeps finished runs, and the engine resumes the one that was under way. A run that diverged, or whose code
raised or was stopped, is a result with its reason and without an accuracy; it does not stop the others.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from evomix.artifacts import digest_file, write_json
from evomix.probes.settings import Probes, ProbeTask
from evomix.probes.tasks import architecture
from evomix.settings import Framework
from evomix.specs import (
    Measurement,
    MechanismReference,
    Optimisation,
    RunSpec,
    TrainingSection,
    corpus_reference,
)
from evomix.training.contained import RunError, train_all_contained, train_contained

CLIP = 1.0
"""Limit of the global gradient norm."""


def make_spec(
    framework: Framework,
    variant: str,
    mechanism: Path,
    training: TrainingSection,
    probes: Probes,
    setting: ProbeTask,
    seed: int,
    data: Path,
) -> RunSpec:
    """Return the spec of one probe."""
    return RunSpec(
        framework=framework,
        variant=variant,
        size=setting.name,
        seed=seed,
        mechanism=MechanismReference(path=str(mechanism), digest=digest_file(mechanism)),
        corpus=corpus_reference(data / setting.name / "stats.json"),
        architecture=architecture(probes, setting),
        optimisation=Optimisation(
            steps=probes.steps,
            batch_size=probes.batch_size,
            learning_rate=probes.learning_rate,
            warmup_steps=probes.warmup_steps,
            weight_decay=probes.weight_decay,
            clip=CLIP,
        ),
        measurement=Measurement(shard="test", every=probes.evaluate_every, rows=probes.test_rows),
        execution=training.execution(),
        sandbox=training.sandbox,
    )


def run(
    framework: Framework,
    variant: str,
    mechanism: Path,
    training: TrainingSection,
    probes: Probes,
    data: Path,
    output: Path,
) -> None:
    """Train every task and seed under output's folder, {variant}/{task}/seed_{seed}/, and write what came of them."""
    place = output.parent / variant
    runs = [
        (
            make_spec(framework, variant, mechanism, training, probes, setting, seed, data),
            place / setting.name / f"seed_{seed}",
        )
        for setting in probes.tasks
        for seed in probes.seeds
    ]
    with contextlib.suppress(RunError):  # `_result` finds out which run it was
        train_all_contained(runs)
    write_json(
        output,
        "probe_runs",
        {"framework": framework, "variant": variant, "runs": [_result(spec, folder) for spec, folder in runs]},
    )


def _result(spec: RunSpec, folder: Path) -> dict[str, Any]:
    """Return what came of a run: its accuracies by length, or why there are none."""
    record: dict[str, Any] = {"task": spec.size, "seed": spec.seed}
    try:
        summary = train_contained(spec, folder)
    except RunError as error:
        return {**record, "status": "failed", "reason": str(error), "accuracy": {}, "refused": {}, "curve": []}
    return {
        **record,
        "status": summary["status"],
        "reason": summary["reason"],
        "accuracy": summary.get("accuracy", {}) if summary["status"] == "finished" else {},
        "refused": summary.get("refused", {}),
        "curve": summary.get("accuracy_curve", []),
    }
