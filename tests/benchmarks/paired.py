"""Paired, interleaved timings: two ways of doing one thing in turn, so that a busy machine slows both alike.

CPU seconds of one thread are compared, never wall time; ratios are medians over the pairs.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

Task = Callable[[], object]


def cpu_seconds(task: Task) -> float:
    """Return the CPU time of one call."""
    began = time.process_time()
    task()
    return time.process_time() - began


def ratio(plain: Task, ours: Task, pairs: int) -> tuple[float, float, float]:
    """Return (plain / ours, plain, ours): medians over interleaved pairs, after one call of each as warm-up."""
    plain()
    ours()
    timings = [(cpu_seconds(plain), cpu_seconds(ours)) for _ in range(pairs)]
    return (
        statistics.median(first / second for first, second in timings),
        statistics.median(first for first, _ in timings),
        statistics.median(second for _, second in timings),
    )


def machine() -> str:
    """Describe the machine in one line."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].split(":")[1].strip() if lines else cpu
    return f"{cpu}, torch {torch.__version__}, {torch.get_num_threads()} thread(s), CPU seconds"


def peak_bytes(task: Task) -> int:
    """Return by how much a call, made in a forked child, raises the peak resident memory above the child's start."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        before = _resident()
        task()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        os.write(writer, str(peak - before).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(reader, 100))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
