"""Watching a sandboxed process: its streams, its memory, threads and wall time, and the signals handed on to it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import BinaryIO

_THREADS = 512
_KEPT = 1 << 16
_PAUSE = 0.05
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]|\xc2[\x80-\x9f]|\x1b(?!\[(?:A|\d*K|[\d;]*m))")
"""Characters that a terminal obeys, except those of a progress bar (carriage return, line up, clear line, colour)."""


class Supervisor:
    """Waits for one child: kills it at the deadline, over the memory limit or with too many threads."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float, memory: int, grace: float) -> None:
        self.process, self.memory, self.grace = process, memory, grace
        self.deadline = time.monotonic() + seconds
        self.peak_memory = 0
        self.stopped: str | None = None

    def stop(self, reason: str) -> None:
        """Kill the child if it still runs; the first reason is the one recorded."""
        if self.process.poll() is None:
            self.stopped = self.stopped or reason
            self._send(signal.SIGKILL)

    def hand_on(self, number: int) -> None:
        """Ask the child to stop, as we were asked, and leave it `grace` seconds for its checkpoint."""
        if self.stopped is None:
            self.stopped = f"signal {number}"
            self.deadline = min(self.deadline, time.monotonic() + self.grace)
            self._send(signal.SIGTERM)

    def _send(self, number: int) -> None:
        """Signal the child's whole session (it is its leader), gone or not."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def _look(self) -> None:
        if time.monotonic() > self.deadline:
            self.stop("time")
            return
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return
        values = dict(line.split(":", 1) for line in lines if ":" in line)
        resident = sum(int(values.get(key, "0 kB").split()[0]) * 1024 for key in ("RssAnon", "RssShmem"))
        self.peak_memory = max(self.peak_memory, resident)
        if resident > self.memory:
            self.stop("memory")
        elif int(values.get("Threads", "1")) > _THREADS:
            self.stop("threads")

    def collect(self, streams: dict[str, int], shown: dict[str, BinaryIO]) -> dict[str, bytes]:
        """Read the named descriptors until the child is gone; return the last 64 KiB of each, copy `shown` ones."""
        kept = dict.fromkeys(streams, b"")
        pending = {descriptor: name for name, descriptor in streams.items()}
        looked = 0.0
        while pending or self.process.poll() is None:
            if pending:
                ready = select.select(list(pending), [], [], _PAUSE)[0]
            else:
                ready = []
                time.sleep(_PAUSE / 5)
            for descriptor in ready:
                try:
                    chunk = os.read(descriptor, 1 << 16)
                except OSError:  # a terminal answers EIO when its other side is closed
                    chunk = b""
                if not chunk:
                    del pending[descriptor]
                    continue
                name = pending[descriptor]
                chunk = _CONTROL.sub(b"", chunk)
                kept[name] = (kept[name] + chunk)[-_KEPT:]
                if name in shown:
                    shown[name].write(chunk)
                    shown[name].flush()
            if not ready and self.process.poll() is not None:
                break
            if time.monotonic() - looked > _PAUSE:
                looked = time.monotonic()
                self._look()
        self.process.wait()
        return kept


@contextlib.contextmanager
def handing_on_signals(supervisor: Supervisor) -> Iterator[None]:
    """While inside, SIGTERM and SIGINT to this process go to the child (only the main thread can arrange that)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def hand_on(number: int, _frame: FrameType | None) -> None:
        supervisor.hand_on(number)

    previous = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        supervisor.stop("error")  # only when something here raised: the child never outlives this block
