"""What a tiny job finds where it runs: written by the job, read by `check-cluster`."""

from __future__ import annotations

import importlib.util
import os
import platform
import resource
from pathlib import Path

from evomix.artifacts import write_json
from evomix.settings import KEY_VARIABLE

NEEDED = ("numpy", "optuna", "pydantic", "safetensors", "scipy", "tokenizers", "torch")


def probe(kind: str, output: Path, gpus: int) -> None:
    """Write what this machine offers a job of `kind` that asked for `gpus` GPUs."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    seen, devices = 0, os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if gpus and "torch" not in missing:
        import torch

        seen = torch.cuda.device_count()
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    write_json(
        output,
        "cluster-probe",
        {
            "kind": kind,
            "node": os.environ.get("SLURMD_NODENAME", platform.node()),
            "job": os.environ.get("SLURM_JOB_ID"),
            "python": platform.python_version(),
            "missing": missing,
            "gpus": {"asked": gpus, "given": devices, "seen": seen},
            "address_space": None if limit == resource.RLIM_INFINITY else limit,
            "key_visible": _key_visible(),
        },
    )


def _key_visible() -> bool:
    """Say whether the job's own environment, the rule's shell above us, holds the key: our command line drops it."""
    try:
        above = Path(f"/proc/{os.getppid()}/environ").read_bytes()
    except OSError:
        above = b""
    return KEY_VARIABLE in os.environ or f"{KEY_VARIABLE}=".encode() in above
