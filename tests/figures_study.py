"""An artificial study in the real schemas: what the figures and the report are drawn from in their tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from ablation_study import write_ablation
from evomix.artifacts import digest_file, read_json, write_json, write_table, write_text
from evomix.mechanisms.table import tabulate
from evomix.settings import Costs, Gallery, Tuning, Validation
from evomix.statistics.comparison import compare
from evomix.statistics.horizon import horizon
from evomix.statistics.scaling_law import fit
from evomix.statistics.validation import validate
from evomix.streams import numpy_stream
from evomix.tuning.choice import choose
from evomix.tuning.design import design
from probes_study import write_probes

FRAMEWORKS = ("coefficient_dynamics", "test_time_regression", "matrix_mixer")
SIZES = {"tiny": 13_000, "small": 52_000, "medium": 208_000}
VALIDATION_SIZE, SEEDS, STEPS, EVERY = "medium", (42, 43, 44, 45), 400, 40
EFFECT = {"coefficient_dynamics": 0.012, "test_time_regression": 0.0004, "matrix_mixer": -0.006}
TUNING = Tuning(size="small", trials=8, steps=100, warmup_steps=(10, 40), batch_sizes=[8, 16])
HOSTILE = "</script><script>alert('x')</script>"


def final_loss(framework: str, variant: str, size: str, seed: int) -> float:
    """Return a plausible final loss whose seed effect both variants share."""
    shared = numpy_stream(seed, framework, size).normal(0, 0.006)
    own = numpy_stream(seed, framework, variant, size).normal(0, 0.002)
    return float(3.2 - 0.12 * np.log(SIZES[size] / 13_000) + shared + own - EFFECT[framework] * (variant == "evolved"))


def write_run(root: Path, framework: str, variant: str, size: str, seed: int, *, diverged: bool = False) -> None:
    """Write summary.json, timing.json and curve.parquet of one training."""
    folder = root / "training" / framework / variant / size / f"seed_{seed}"
    loss = None if diverged else final_loss(framework, variant, size, seed)
    write_json(
        folder / "summary.json",
        "training",
        {
            "framework": framework,
            "variant": variant,
            "size": size,
            "seed": seed,
            "status": "diverged" if diverged else "finished",
            "reason": "loss is not finite at step 12" if diverged else None,
            "loss": loss,
            "bits_per_byte": None if loss is None else loss / 2.6,
            "steps": STEPS,
            "steps_to_90": None if diverged else 180,
            "loss_at_start": 6.2,
            "parameters": {
                "non_embedding": SIZES[size] + (900 if variant == "evolved" else 0),
                "embedding": 65_536,
                "total": SIZES[size] + 65_536,
                "mechanism": SIZES[size] // 3,
            },
            "flops_per_token": SIZES[size] * 6 * (1.08 if variant == "evolved" else 1.0),
            "flops": {
                "counted": SIZES[size] * 7,
                "torch": SIZES[size] * 6,
                "unseen": {"cumsum": SIZES[size] * 0.7, "_softmax": SIZES[size] * 0.3},
            },
            "spec_digest": "0" * 64,
        },
    )
    write_json(
        folder / "timing.json",
        "timing",
        {
            "seconds": 21.5,
            "runs": 1,
            "steps_per_second": 20.0,
            "tokens_per_second": 4.1e4,
            "peak_memory_bytes": 3e8,
            "device": "cpu",
        },
    )
    steps = np.arange(STEPS)
    end = 3.0 if loss is None else loss
    train = end + (6.2 - end) * np.exp(-steps / 60)
    write_table(
        folder / "curve.parquet",
        pd.DataFrame(
            {
                "step": steps,
                "train_loss": train + numpy_stream(seed, variant).normal(0, 0.02, STEPS),
                "held_out_loss": np.where((steps + 1) % EVERY == 0, train, np.nan),
                "gradient_norm": 1.0,
                "learning_rate": 5e-4,
            }
        ),
    )


def write_trainings(root: Path, framework: str) -> None:
    """Write every scaling and validation run of one framework."""
    for variant in ("standard", "evolved"):
        for size in SIZES:
            for seed in SEEDS:
                write_run(root, framework, variant, size, seed)


def write_sections(root: Path, frameworks: tuple[str, ...] = FRAMEWORKS) -> None:
    """Write the sections of the config that figures and the report read."""
    sections = {
        "validation": {
            "validation": Validation(size=VALIDATION_SIZE, seeds=list(SEEDS)).model_dump(mode="json"),
            "frameworks": list(frameworks),
        },
        "scaling": {"sizes": list(SIZES), "seeds": list(SEEDS)},
        "policy": {"policy": "joint", "preset": "test"},
        "costs": Costs().model_dump(mode="json"),
        "tuning": TUNING.model_dump(mode="json", exclude={"workers", "policy"}),
        "judgement": {"sizes": list(SIZES), "fitness": "slope", "margin": 0.0, "seeds": [1, 2]},
    }
    for name, section in sections.items():
        write_text(root / "config" / f"{name}.json", json.dumps(section))


def write_analysis(root: Path, frameworks: tuple[str, ...] = FRAMEWORKS) -> None:
    """Write scaling laws, validation and comparison with the real statistics."""
    summaries = sorted((root / "training").glob("*/*/*/*/summary.json"))
    validation = Validation(size=VALIDATION_SIZE, seeds=list(SEEDS))
    labels: Any = {"preset": "test", "tuning_policy": "joint", "tuning_budget": TUNING.budget}
    laws = {framework: root / "scaling" / f"{framework}.json" for framework in frameworks}
    for framework, law in laws.items():
        fit(framework, [path for path in summaries if framework in path.parts], law, **labels)
    validate(validation, frameworks, summaries, laws, root / "validation", **labels)
    compare(validation, frameworks, summaries, root / "comparison" / "frameworks.json", **labels)


STANDARD = '''"""Softmax attention."""

# EVOLVE-BLOCK-START
class Mechanism(Contract):
    def mix(self, q, k, v):
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        return scores.masked_fill(self.future, -math.inf).softmax(-1) @ v
# EVOLVE-BLOCK-END
'''
EVOLVED = STANDARD.replace(
    "        return scores",
    f"        scores = scores * self.gate  # {HOSTILE}\n        return scores",
)


def write_mechanisms(root: Path, framework: str) -> None:
    """Write the frozen files of both variants; the evolved one carries hostile text."""
    write_text(root / "mechanisms" / framework / "standard.py", STANDARD)
    write_text(root / "mechanisms" / framework / "evolved.py", EVOLVED)


def write_search(root: Path, framework: str, arm: str, count: int = 20) -> None:
    """Write baseline, history and lineage of one arm: candidates drift upwards, some are refused or fail."""
    folder = root / "evolution" / framework
    seeds = {str(seed): numpy_stream(seed, framework, "baseline").normal(0, 0.004) for seed in range(1, 9)}
    losses = {
        size: {
            seed: 3.2 - 0.12 * np.log(count_ / 13_000) + shift + numpy_stream(int(seed), size).normal(0, 0.003)
            for seed, shift in seeds.items()
        }
        for size, count_ in SIZES.items()
    }
    write_json(
        folder / "baseline" / "evaluation.json",
        "evaluation",
        {"status": "accepted", "losses": losses, "parameters": SIZES, "slope": -0.12, "fitness": 0.12},
    )
    stream = numpy_stream(1, framework, arm, "search")
    rows = []
    for iteration in range(1, count + 1):
        status = str(stream.choice(["accepted", "refused", "failed"], p=[0.7, 0.2, 0.1]))
        accepted = [row for row in rows if row["status"] == "accepted"]
        parent = accepted[int(stream.integers(len(accepted)))] if accepted and stream.random() < 0.8 else None
        drift = 0.0006 * iteration if arm == "guided" else 0.0002 * iteration
        slope, gain = -0.12 - drift - stream.normal(0, 0.004), drift + stream.normal(0, 0.006)
        guarded = status == "accepted" and gain < 0
        status = "refused" if guarded else status
        rows.append(
            {
                "iteration": iteration,
                "wave": (iteration - 1) // 5 + 1,
                "slot": (iteration - 1) % 5,
                "id": f"{framework}-{arm}-{iteration}",
                "candidate": f"{iteration:064x}",
                "parent": parent["id"] if parent else f"{framework}-{arm}-seed-0",
                "patch": "diff",
                "changes": f"scale the logits {HOSTILE}" if iteration == 3 else "scale the logits",
                "status": status,
                "check": "guard" if guarded else {"refused": "causality", "failed": "training"}.get(status),
                "reason": "changes the past" if status == "refused" else None,
                "slope": slope if guarded or status == "accepted" else None,
                "gain": gain if guarded or status == "accepted" else None,
                "fitness": -slope if status == "accepted" else None,
            }
        )
    write_table(folder / arm / "history.parquet", pd.DataFrame(rows))
    accepted = [row for row in rows if row["status"] == "accepted"]
    fresh = {"status": "accepted", "gain": 0.004, "standard": {"slope": -0.12, "fitness": 0.12}}
    found = [
        {"rank": rank, "id": row["id"], "search_fitness": row["fitness"], "shrunken_fitness": 0.125, "fitness": 0.124}
        | fresh
        for rank, row in enumerate(sorted(accepted, key=lambda row: -row["fitness"])[:3], 1)
    ]
    spent = {"calls": 20, "prompt_tokens": 9_000, "completion_tokens": 2_000, "dollars": 0.31}
    record = {"framework": framework, "arm": arm, "chosen": found[0], "finalists": found, "spent": spent}
    write_json(folder / arm / "selection.json", "selection", {**record, "stopped": None, "found": True})


def write_certificates(root: Path, framework: str) -> None:
    """Write the gate's record of both variants."""
    checks = [
        {"check": "causality", "layer": "certificate", "value": 3e-16, "limit": 1e-9, "passed": True, "hint": ""},
        {"check": "syntax", "layer": "syntax", "value": "allowed", "limit": "allowed", "passed": True, "hint": ""},
    ]
    for variant in ("standard", "evolved"):
        path = root / "mechanisms" / framework / f"{variant}.certificate.json"
        write_json(path, "certificate", {"framework": framework, "accepted": True, "layers": {}, "checks": checks})


def write_tuning(root: Path, framework: str) -> None:
    """Write the tuning of both variants with the real design and choice; trial 5 diverged and was replaced."""
    design(TUNING, root / "tuning" / "design.json")
    content = read_json(root / "tuning" / "design.json", "tuning_design")
    trials = [*content["trials"], content["replacements"][5]]
    for variant in ("standard", "evolved"):
        folder = root / "tuning" / framework / variant
        records = []
        for trial in trials:
            noise = numpy_stream(7, framework, variant, trial["number"]).normal(0, 0.01)
            loss = 3.1 + 0.15 * np.log(trial["learning_rate"] / 4e-4) ** 2 + noise
            lost = trial["number"] == 5
            status = {"status": "diverged", "reason": "not finite", "loss": None} if lost else {"loss": loss}
            kept = {"status": "finished", "reason": None, "spec_digest": "0", "steps": 100, "rungs": {}}
            records.append({**kept, **trial, **status})
        digest = digest_file(root / "tuning" / "design.json")
        owner = {"framework": framework, "variant": variant, "size": "small", "worker": 0}
        write_json(folder / "worker_0.json", "tuning_worker", {**owner, "design": digest, "trials": records})
        design_file = root / "tuning" / "design.json"
        choose(TUNING, design_file, [folder / "worker_0.json"], folder / "best.json", policy="joint")


def write_matrices(root: Path, framework: str, layers: int = 2, heads: int = 2) -> None:
    """Write mixing matrices of both variants: softmax-like, and decaying with negative weights in one framework."""
    tokens = ["Once", " there", " was", " a", "\n", " $x$", " dog", "."] * 3
    past = np.tril(np.ones((len(tokens), len(tokens))))
    for variant in ("standard", "evolved"):
        scores = numpy_stream(3, framework, variant).normal(0, 1.5, (layers, heads, *past.shape))
        weights = np.exp(scores) * past
        if variant == "evolved" and framework == "matrix_mixer":
            weights = scores * past
        weights = (weights / np.abs(weights).sum(-1, keepdims=True)).astype("float32")
        path = root / "mixing" / framework / f"{variant}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"matrices": weights}, path, metadata={"tokens": json.dumps(tokens)})


def write_gallery(root: Path) -> None:
    """Write the table of three members per framework, one of which diverged, with the real function."""
    write_json(root / "corpus" / "stats.json", "corpus", {"unigram_entropy": 3.15})
    for framework in FRAMEWORKS:
        for member in ("softmax", "linear", "ssd"):
            write_run(root / "experts", framework, member, "small", 7, diverged=framework + member == "matrix_mixerssd")
    runs = sorted((root / "experts").rglob("summary.json"))
    tabulate(Gallery(size="small", steps=STEPS), runs, root / "corpus" / "stats.json", root / "gallery.json")


def write_on_demand(root: Path) -> None:
    """Write horizons with the real statistics, a calibration of two rows, and a table of the gallery."""
    write_gallery(root)
    for framework in FRAMEWORKS:
        curves = sorted((root / "training" / framework / "standard").glob("*/*/curve.parquet"))
        names = [str(number) for number in range(len(curves))]
        for arm in ("guided", "random"):
            horizon(curves, names, root / "evolution" / framework / arm / "horizon.json")
    row = {"estimate": 0.045, "ci": [0.036, 0.055], "studies": 2_000, "promise": "at most 0.05", "verdict": "holds"}
    names = ("false rejections, hyper-parameters known", "any false rejection of 3 after Holm, full protocol")
    curve = [{"d_z": d_z, "simulated": d_z / 2, "ci": [d_z / 2, d_z / 2 + 0.02], "formula": d_z / 2} for d_z in (0, 1)]
    table = [{"name": name, **row} for name in names]
    figure = {"p_histogram": [100] * 20, "power_curve": curve}
    write_json(root / "calibration.json", "calibration", {"alpha": 0.05, "table": table, "figure": figure})
    write_aa(root)


def write_aa(root: Path) -> None:
    """Write two A/A studies, one of whose comparisons claims falsely."""
    names = ("study", "framework", "mean", "ci", "margin", "p", "holm_p", "seeds_only_p", "verdict")
    rows = [
        ("study_1", FRAMEWORKS[0], 0.001, [-0.004, 0.006], 0.01, 0.6, 0.6, 0.3, {"word": "equivalent"}),
        ("study_1", FRAMEWORKS[1], 0.012, [0.005, 0.019], 0.01, 0.01, 0.02, 0.001, {"word": "better"}),
        ("study_2", FRAMEWORKS[0], None, [None, None], 0.01, None, 1.0, None, {"word": "inconclusive"}),
    ]
    comparisons = [dict(zip(names, row, strict=True)) for row in rows]
    write_json(root / "aa.json", "aa", {"comparisons": comparisons})


def write_study(root: Path) -> None:
    """Write a whole finished study."""
    write_sections(root)
    for framework in FRAMEWORKS:
        write_trainings(root, framework)
        write_mechanisms(root, framework)
        write_certificates(root, framework)
        write_tuning(root, framework)
        write_matrices(root, framework)
        write_probes(root, framework, SEEDS, HOSTILE)
        for arm in ("guided", "random"):
            write_search(root, framework, arm)
    write_analysis(root)
    for framework in FRAMEWORKS:
        losses = {seed: final_loss(framework, "evolved", VALIDATION_SIZE, seed) for seed in SEEDS}
        write_ablation(root, framework, VALIDATION_SIZE, SEEDS, losses)
    write_on_demand(root)


def finished_study(base: Path) -> Path:
    """Return a finished study beneath `base`, the session's temporary folder, written once and shared by test files."""
    root = base / "finished_study"
    if not root.exists():
        write_study(root)
    return root
