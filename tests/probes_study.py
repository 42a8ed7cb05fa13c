"""Artificial probes in the real schemas, for the tests of summary, figures and report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evomix.artifacts import write_json
from evomix.probes.settings import Probes, ProbeTask
from evomix.probes.summary import summarise
from evomix.settings import Tuning
from evomix.specs import PolicySection
from evomix.streams import numpy_stream


def write_probes(root: Path, framework: str, seeds: Sequence[int], hostile: str) -> None:
    """Write the probes of both variants with the real summary: one task learnt, one not, one seed of it diverged."""
    tasks = [ProbeTask(task="mqar", lengths=[64], items=4), ProbeTask(task="parity", lengths=[32, 64])]
    probes = Probes(steps=100, warmup_steps=10, evaluate_every=50, tasks=tasks)
    runs, lengths = [], []
    for variant in ("standard", "evolved"):
        draw = numpy_stream(4, framework, variant)
        records = []
        for task in tasks:
            for seed in probes.seeds:
                right = {str(length): 0.5 + 0.4 * (task.task == "mqar") * draw.random() for length in task.lengths}
                run = {"task": task.name, "seed": seed, "status": "finished", "reason": None, "refused": {}}
                records.append(run | {"accuracy": right, "curve": [[50, right], [100, right]]})
        if variant == "evolved":
            records[-1] |= {"status": "diverged", "reason": f"loss was not finite {hostile}", "accuracy": {}}
        owner = {"framework": framework, "variant": variant}
        runs.append(root / "probes" / "runs" / framework / f"{variant}.json")
        write_json(runs[-1], "probe_runs", {**owner, "runs": records})
        read = [
            {
                "seed": seed,
                "status": "finished",
                "loss": {"32": 3.0 + 0.01 * draw.random(), "64": 3.1 + 0.01 * draw.random()},
                "stretches": {"32": [3.0], "64": [2.9, 3.3]},
                "refused": {},
            }
            for seed in seeds
        ]
        lengths.append(root / "probes" / "lengths" / framework / f"{variant}.json")
        shape = {"trained": 32, "tokens": 640, "edges": [0, 32, 64]}
        write_json(lengths[-1], "probe_lengths", {**owner, **shape, "runs": read})
    budget = Tuning(size="tiny", trials=4, steps=2).budget
    labels = PolicySection(policy="joint", preset="test", budget=budget)
    summarise(probes, labels, ("standard", "evolved"), runs, lengths, root / "probes" / f"{framework}.json")
