"""The sandboxed half of the gate: run integrity, budgets and certificate on one candidate and write their records.

Started by `gate.gate` as `python -m evomix.gate.worker JOB OUTPUT` inside the sandbox, never by hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from evomix.artifacts import canonical_json
from evomix.gate import budgets, integrity
from evomix.gate.refusal import outcome
from evomix.mechanisms import certificate, library
from evomix.specs import Architecture


def main(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all records of a job: {path, framework, architectures, batch, parameter_budget, flop_budget, weights}."""
    torch.set_num_threads(1)
    path, framework = Path(job["path"]), job["framework"]
    architectures = [Architecture.model_validate(item) for item in job["architectures"]]
    weights = Path(job["weights"]) if job["weights"] else None
    limits = {"parameter_budget": job["parameter_budget"], "flop_budget": job["flop_budget"]}
    records = integrity.check(path, framework, architectures[0], batch=job["batch"], **limits, weights=weights)
    if records[-1]["check"] == "integrity.loads":
        return records
    kind = library.load(path, framework)
    for architecture in architectures[1:]:
        records += budgets.check(kind, architecture, **limits)
    return records + certificate_records(path, kind, architectures[0], weights)


def certificate_records(
    path: Path, kind: Any, architecture: Architecture, weights: Path | None
) -> list[dict[str, Any]]:
    """Return one record per test of the certificate: its first failure, or its worst value."""
    trained = None
    if weights is not None:
        prefix = "blocks.0.mechanism."
        trained = {
            name.removeprefix(prefix): item for name, item in load_file(weights).items() if name.startswith(prefix)
        }
    evidence = certificate.certify(
        kind, width=architecture.width, heads=architecture.heads, seed=integrity.input_seed(path), weights=trained
    )
    grouped: dict[str, dict[str, Any]] = {}
    for test in evidence["tests"]:
        known = grouped.get(test["id"])
        if known is None or (known["passed"] and not test["passed"]):
            grouped[test["id"]] = test
    sentences = {sentence.split(" ", 1)[0]: f"{sentence}." for sentence in reversed(evidence["refusals"])}
    return [
        outcome(
            f"certificate.{name}",
            "certificate",
            test["value"],
            test["tolerance"],
            test["passed"],
            sentences.get(name, ""),
        )
        | {"meaning": test["meaning"]}
        for name, test in grouped.items()
    ]


if __name__ == "__main__":
    found = main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    Path(sys.argv[2]).write_text(canonical_json(found), encoding="utf-8")
