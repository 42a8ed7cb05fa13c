"""What is wrong with a profile on its cluster, as far as can be said before a job is sent: sentences with mends."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from evomix.cluster import guard
from evomix.errors import UserError

_PROGRAMS = ("sbatch", "squeue", "scontrol", "sinfo", "scancel")


def read_profile(profile: Path) -> dict[str, Any]:
    """Return the profile's settings; UserError when it is no profile."""
    try:
        content = yaml.safe_load((profile / "config.yaml").read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{profile} holds no config.yaml; pass the folder of a profile, e.g. profiles/slurm") from None
    except yaml.YAMLError as error:
        raise UserError(f"{profile}/config.yaml is not valid YAML ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{profile}/config.yaml is empty; copy profiles/slurm")
    return content


def _ask(*command: str) -> str | None:
    """Return what a program of SLURM prints, or None when it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (subprocess.SubprocessError, OSError):
        return None


def findings(profile: Path) -> list[str]:
    """Return what is wrong with the profile on this cluster, as far as the login node can tell."""
    settings = read_profile(profile)
    if settings.get("executor") != "slurm":
        return []
    lacking = [name for name in _PROGRAMS if shutil.which(name) is None]
    if lacking:
        return [f"{', '.join(lacking)} not found: run this on a login node of the cluster (or load its SLURM module)"]
    partitions = _ask("scontrol", "show", "partition", "--oneliner")
    if partitions is None:
        return ["the SLURM controller does not answer (`scontrol ping`): wait, or ask the cluster's administrator"]
    found = [
        *_key(),
        *_partitions(settings, re.findall(r"PartitionName=(\S+)", partitions)),
        *_models(settings, _ask("sinfo", "--noheader", "--format=%G") or ""),
        *_age(settings, _ask("scontrol", "show", "config") or ""),
    ]
    return found


def _key() -> Iterator[str]:
    try:
        guard.require_no_key()
    except UserError as error:
        yield str(error)


def _resources(settings: dict[str, Any], name: str) -> dict[str, str]:
    """Return where a resource is set in the profile: the rule (or `default-resources`) and its value."""
    places = {"default-resources": settings.get("default-resources") or {}, **(settings.get("set-resources") or {})}
    return {place: str(values[name]) for place, values in places.items() if name in values}


def _partitions(settings: dict[str, Any], existing: list[str]) -> Iterator[str]:
    named = [(place, name) for place, name in _resources(settings, "slurm_partition").items()]
    path = settings.get("slurm-partition-config")
    if path:
        try:
            listed = yaml.safe_load(Path(path).read_text(encoding="utf-8"))["partitions"]
        except (OSError, yaml.YAMLError, KeyError, TypeError):
            yield f"{path} (slurm-partition-config) is no list of partitions: copy profiles/slurm/partitions.yaml"
            return
        named += [(path, name) for name in listed]
    for place, name in named:
        if name not in existing:
            yield f"partition {name} ({place}) does not exist; this cluster has {', '.join(existing)}"


def _models(settings: dict[str, Any], gres: str) -> Iterator[str]:
    existing = sorted(set(re.findall(r"gpu:([A-Za-z][\w.]*)", gres)))
    for place, model in _resources(settings, "gpu_model").items():
        if model not in existing:
            known = ", ".join(existing) or "no named ones"
            yield f"GPU model {model} ({place}) does not exist; this cluster has {known}"


def _age(settings: dict[str, Any], config: str) -> Iterator[str]:
    if settings.get("slurm-status-command") != "squeue":
        return
    match = re.search(r"MinJobAge\s*=\s*(\d+)", config)
    first = int(settings.get("slurm-init-seconds-before-status-checks", 40))
    if match and int(match[1]) < 3 * first:
        yield (
            f"the controller forgets ended jobs after {match[1]} s (MinJobAge): set "
            f"slurm-init-seconds-before-status-checks to at most {int(match[1]) // 3}, or remove slurm-status-command "
            "where sacct works"
        )
