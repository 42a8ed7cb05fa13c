"""Runs a training again and again and kills it at random moments until it ends; prints what became of each life.

One process imports torch and forks a child per life, so a life costs a fraction of a second. Usage:
python tests/training_killer.py SPECS FOLDER SEED LIVES SECONDS [WAY]: at most LIVES kills, each within SECONDS of
CPU time of the birth.
Several specs in the folder SPECS are trained as a stack, compiled if WAY is the folder of a compiled step, or each in a
process of its own if WAY is "processes". Results go below FOLDER/killed and, of the same runs left in
peace, below FOLDER/whole: one process does both, so that code edited meanwhile cannot tell them apart.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path

import psutil

from evomix.fingerprint import fingerprint
from evomix.specs import RunSpec, read_spec
from evomix.training import engine
from evomix.training.ensemble import train_many
from evomix.training.side_by_side import side_by_side


def train(specs: list[RunSpec], folders: list[Path], way: str) -> None:
    """Train runs in a way."""
    if way == "processes":
        side_by_side([partial(engine.train, spec, folder) for spec, folder in zip(specs, folders, strict=True)])
    else:
        train_many(specs, folders, Path(way) if way else None)


def used(process: psutil.Process) -> float:
    """Return CPU seconds of a process, and of its children while they live."""
    seconds = sum(process.cpu_times()[:2])
    for child in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            seconds += sum(child.cpu_times()[:2])
    return seconds


def live(specs: list[RunSpec], folders: list[Path], delay: float | None, signum: int, way: str) -> int:
    """Train in a child that is sent `signum` after `delay` seconds of CPU time; return its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            train(specs, folders, way)
            status = 0
        except SystemExit as error:
            status = int(str(error.code))
        finally:
            os._exit(status)
    if delay is not None:
        process = psutil.Process(child)
        while process.status() != psutil.STATUS_ZOMBIE and used(process) < delay:
            time.sleep(0.002)
        family = process.children()
        os.kill(child, signum)  # a finished child stays a zombie until it is waited for, so the id is still its own
        psutil.wait_procs(family)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(specs_folder: str, folder: str, seed: str, lives: str, seconds: str, way: str = "") -> None:
    """Kill up to `lives` times, then let the run finish."""
    paths = sorted(Path(specs_folder).glob("*.json"))
    specs = [read_spec(path, RunSpec) for path in paths]
    folders = [Path(folder) / "killed" / path.stem for path in paths]
    fingerprint(engine.MODULE)
    if live(specs, [Path(folder) / "whole" / path.stem for path in paths], None, signal.SIGKILL, way):
        sys.exit("the undisturbed run failed")
    generator = random.Random(int(seed))
    statuses: list[int] = []
    reached: list[str] = []
    for life in range(int(lives)):
        signum = signal.SIGTERM if life % 3 == 2 else signal.SIGKILL
        statuses.append(live(specs, folders, generator.uniform(0, float(seconds)), signum, way))
        reached.append(max((path.name for path in folders[0].glob("checkpoint/step_*")), default=""))
        if statuses[-1] == 0:
            break
    else:
        statuses.append(live(specs, folders, None, signal.SIGKILL, way))
    print(json.dumps({"statuses": statuses, "reached": reached}))


if __name__ == "__main__":
    main(*sys.argv[1:])
