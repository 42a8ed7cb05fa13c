"""Runs a training again and again and kills it at random moments until it ends; prints what became of each life.

One process imports torch and forks a child per life, so a life costs a fraction of a second. Usage:
python tests/training_killer.py SPEC FOLDER SEED LIVES SECONDS: at most LIVES kills, each within SECONDS of the birth.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from evomix.fingerprint import fingerprint
from evomix.specs import RunSpec, read_spec
from evomix.training import engine


def live(spec: RunSpec, folder: Path, delay: float | None, signum: int) -> int:
    """Train in a child that is sent `signum` after `delay` seconds; return its exit status (negative: the signal)."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            engine.train(spec, folder)
            status = 0
        except SystemExit as error:
            status = int(str(error.code))
        finally:
            os._exit(status)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signum)  # a finished child stays a zombie until it is waited for, so the id is still its own
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(spec_path: str, folder: str, seed: str, lives: str, seconds: str) -> None:
    """Kill up to `lives` times, then let the run finish."""
    spec = read_spec(Path(spec_path), RunSpec)
    fingerprint(engine.MODULE)
    generator = random.Random(int(seed))
    statuses: list[int] = []
    reached: list[str] = []
    for life in range(int(lives)):
        signum = signal.SIGTERM if life % 3 == 2 else signal.SIGKILL
        statuses.append(live(spec, Path(folder), generator.uniform(0, float(seconds)), signum))
        reached.append(max((path.name for path in Path(folder).glob("checkpoint/step_*")), default=""))
        if statuses[-1] == 0:
            break
    else:
        statuses.append(live(spec, Path(folder), None, signal.SIGKILL))
    print(json.dumps({"statuses": statuses, "reached": reached}))


if __name__ == "__main__":
    main(*sys.argv[1:])
