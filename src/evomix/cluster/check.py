"""`make check-cluster`: send one tiny job of every kind through a profile and say in words what is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from evomix.artifacts import read_json
from evomix.cluster import queue, site
from evomix.errors import UserError

KINDS = {
    "light": "a light job with the profile's default resources",
    "training": "a job with the resources of one full training",
    "candidate": "a job with the resources of judging a candidate",
    "packed": "two jobs packed into one",
}
_WORDS = {
    r"invalid partition": "the partition is unknown: correct slurm_partition or partitions.yaml",
    r"Invalid account|account.* not (?:exist|found|known)|AccountNotAllowed": "the account is missing or unknown: set "
    "slurm_account in default-resources",
    r"Invalid (?:generic resource|gres)|Invalid GRES|gpu.*not available": "no node has the GPUs that were asked for: "
    "correct gpu_model, or ask for fewer",
    r"Memory (?:required|specification)": "more memory was asked for than any node of the partition has: lower mem_mb",
    r"Requested node configuration is not available": "no node offers what was asked for (cores, memory or GPUs): "
    "correct gpu_model, mem_mb, or the partition's limits",
    r"[Tt]ime limit (?:is )?(?:invalid|exceed)|time limit": "the run time is over the partition's limit: "
    "lower `longest`",
    r"Invalid qos|QOS": "the quality of service is unknown: correct slurm-qos",
    r"No partition": "no partition of partitions.yaml offers what was asked for: raise its limits",
    r"No such file or directory.*python|python.*(?:No such file|not found)": "Python of the login node is missing on "
    "the node: the clone and its .venv must lie on a file system that all nodes share",
    r"Logfile \S*slurm_logs\S* not found": "a job failed and its node wrote no log: the clone must lie on a "
    "file system that all nodes share",
    r"MissingOutputException|missing after \d+ seconds": "the job ended well but its file is not here: the results "
    "folder must lie on a file system that all nodes share",
    r"LockException": "another run of the workflow holds this folder: wait for it",
    r"oom|OUT_OF_MEMORY|out.of.memory": "the job was killed for its memory: raise mem_mb",
}

_PAUSE = 2.0
"""Seconds between two looks at the queue."""


def _folder(preset: str) -> Path:
    return Path("results") / ("" if preset == "paper" else preset) / "cluster"


def require_writable(folder: Path) -> None:
    """Raise UserError when no file can be written into `folder`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").write_text("")
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}; mend its permissions or move the clone to a file system that "
            "the nodes share"
        ) from None


def check(profile: Path, preset: str) -> list[str]:
    """Print what every kind of job found and return what is wrong, one sentence each."""
    folder = _folder(preset)
    require_writable(folder)
    found = site.findings(profile)
    if found:
        return found
    for path in folder.glob("*.json"):
        path.unlink()
    command = [sys.executable, "-m", "snakemake", "check_cluster", "--profile", str(profile), "--retries", "0"]
    executor = site.read_profile(profile).get("executor")
    command += ["--cores", "1"] if executor in (None, "local") else []
    command += ["--configfile", f"config/presets/{preset}.yaml"] if preset != "paper" else []
    status, said = _send(command, watch=executor == "slurm")
    wrong: list[str] = []
    for kind, what in KINDS.items():
        path = folder / f"{kind}.json"
        if path.exists():
            wrong += _judge(kind, path)
        else:
            wrong.append(f"{kind}: {what} brought nothing back")
    if status:
        reasons = [words for pattern, words in _WORDS.items() if re.search(pattern, said)]
        wrong += reasons or [f"Snakemake ended with status {status}: {said[-1500:]}"]
    return wrong


def _send(command: list[str], watch: bool) -> tuple[int, str]:
    """Run Snakemake; return its status and what it said, or else why jobs could not start.

    With `watch`, a job that waits for what will not come is cancelled: SLURM would let it wait for ever.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        waited: dict[str, str] = {}
        while process.poll() is None:
            time.sleep(_PAUSE)
            for job in queue.jobs_of(Path.cwd()) if watch else ():
                if job.hopeless and job.id not in waited:
                    waited[job.id] = f"job {job.id} ({job.name}) cannot start: {job.reason}"
                    subprocess.run(["scancel", job.id], capture_output=True, check=False)
        output.seek(0)
        said = output.read()
    return process.returncode, "\n".join(waited.values()) or said


def _judge(kind: str, path: Path) -> list[str]:
    """Print what one job found; return what is wrong with it."""
    report = read_json(path, "cluster-probe")
    gpus = report["gpus"]
    print(
        f"{kind}: {KINDS[kind]}: node {report['node']}, job {report['job']}, Python {report['python']}, "
        f"GPUs {gpus['seen']} of {gpus['asked']} asked for"
    )
    wrong = []
    if report["missing"]:
        wrong.append(f"{kind}: node {report['node']} lacks {', '.join(report['missing'])}: run `make env` on it")
    if gpus["seen"] < gpus["asked"]:
        wrong.append(
            f"{kind}: PyTorch sees {gpus['seen']} of {gpus['asked']} GPUs on {report['node']} (CUDA_VISIBLE_DEVICES="
            f"{gpus['given']!r}): install the CUDA build of PyTorch, and see that the partition's nodes have GPUs"
        )
    if report["key_visible"]:
        wrong.append(f"{kind}: the language model's key stands in the job's environment: unset it before starting")
    return wrong
