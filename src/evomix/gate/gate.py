"""The gate: every check of a candidate before it is trained, as one JSON record.

Syntax is judged here, in the trusted process; what passes is normalised and executed in the sandbox (integrity,
budgets, certificate). Each refusal names the check, the layer that caught it, the measured value, the limit and a hint.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

from evomix.artifacts import canonical_json, digest_text, read_text
from evomix.gate import sandbox, syntax
from evomix.gate.refusal import outcome
from evomix.settings import Sandbox
from evomix.specs import Architecture, SearchSpec

SECONDS, PATIENCE = 300.0, 12
"""CPU time that the sandboxed checks may take (ordinary candidates need four seconds), and how many times as long they
may last: a busy machine must not refuse what an idle one accepts."""
_LARGEST_RECORD = 1 << 22

SMALL = Architecture(width=48, layers=2, heads=2, vocabulary=512, sequence_length=64, dropout=0.1)
"""Shell in which a file is checked when no search says otherwise."""
PARAMETER_BUDGET, FLOP_BUDGET, BATCH = 1.1, 4.0, 64


def gate(
    path: Path,
    framework: str,
    *,
    search: SearchSpec | None = None,
    architecture: Architecture | None = None,
    weights: Path | None = None,
    settings: Sandbox | None = None,
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """Return the record of a mechanism file: {accepted, framework, candidate, layers, checks}.

    `search` gives the shells, budgets and sandbox (without it: `architecture` or a small shell, and budgets that
    every expert member keeps). `weights` is a trained model of that shell (of the search's smallest), whose layers
    are then checked as well. After `seconds` of CPU time the sandboxed checks count as hung. UserError when the file
    cannot be read or a required layer of the sandbox is absent.
    """
    source = read_text(path)
    record: dict[str, Any] = {"framework": framework, "candidate": None, "layers": {}}
    refusals = syntax.check(source, framework)
    if refusals:
        return {**record, "accepted": False, "checks": [refusal.record() for refusal in refusals]}
    text = syntax.normalise(source, framework)
    checks = [outcome("syntax", "syntax", "allowed", "allowed", True)]
    shells = sorted(search.architectures.values(), key=lambda item: (item.width, item.layers)) if search else [SMALL]
    job = {
        "framework": framework,
        "architectures": [item.model_dump(mode="json") for item in ([architecture] if architecture else shells)],
        "batch": search.optimisation.batch_size if search else BATCH,
        "parameter_budget": search.parameter_budget if search else PARAMETER_BUDGET,
        "flop_budget": search.flop_budget if search else FLOP_BUDGET,
        "weights": str(Path(weights).resolve()) if weights else None,
    }
    found, layers = _sandboxed(text, job, settings or (search.sandbox if search else Sandbox()), seconds)
    checks += found
    accepted = all(item["passed"] for item in checks)
    return {**record, "candidate": digest_text(text), "accepted": accepted, "layers": layers, "checks": checks}


def _sandboxed(
    text: str, job: dict[str, Any], settings: Sandbox, seconds: float
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Run the worker on normalised source; return its records and the sandbox's layers."""
    with tempfile.TemporaryDirectory(prefix="evomix-gate-") as name:
        folder = Path(name)
        scratch, task, candidate = folder / "scratch", folder / "job.json", folder / "candidate.py"
        scratch.mkdir()
        candidate.write_text(text, encoding="utf-8")
        task.write_text(canonical_json({"path": str(candidate), **job}), encoding="utf-8")
        output = scratch / "record.json"
        result = sandbox.run(
            ["-m", "evomix.gate.worker", str(task), str(output)],
            readable=[task, candidate, *([Path(job["weights"])] if job["weights"] else [])],
            scratch=scratch,
            settings=settings,
            seconds=PATIENCE * seconds,
            cpu_seconds=seconds,
            file_gb=0.01,
        )
        if result.stopped and result.stopped.startswith("signal"):
            raise SystemExit(128 + int(result.stopped.split()[1]))
        return read_records(result, output), result.layers


def read_records(result: sandbox.SandboxResult, output: Path) -> list[dict[str, Any]]:
    """Read what the worker wrote; a worker that was stopped or died is a failed check of the sandbox."""
    if result.stopped:
        hint = f"The checks were stopped over the limit of {result.stopped}; make the mechanism cheaper."
        return [outcome("sandbox.limits", "sandbox", result.stopped, "within limits", False, hint)]
    if result.returncode == -signal.SIGKILL:
        hint = "The checks were killed at their limit of CPU time or memory; make the mechanism cheaper."
        return [outcome("sandbox.limits", "sandbox", "killed", "within limits", False, hint)]
    if result.returncode:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        text = lines[-1][:300] if lines else f"status {result.returncode}"
        hint = f"The process that checked the mechanism died: {text}."
        return [outcome("sandbox.process", "sandbox", text, "a record", False, hint)]
    try:
        descriptor = os.open(output, os.O_RDONLY | os.O_NOFOLLOW)
        with open(descriptor, encoding="utf-8") as stream:
            content = json.loads(stream.read(_LARGEST_RECORD))
    except (OSError, ValueError):
        content = None
    keys = {"check", "layer", "value", "limit", "passed", "hint"}
    if (
        not isinstance(content, list)
        or not content
        or not all(isinstance(x, dict) and x.keys() - {"meaning"} == keys for x in content)
    ):
        hint = "The process that checked the mechanism wrote no valid record."
        return [outcome("sandbox.record", "sandbox", "no record", "a record", False, hint)]
    return content
