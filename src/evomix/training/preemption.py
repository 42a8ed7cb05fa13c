"""Preemption: SIGTERM asks a training to save itself and to leave with a code that means "start me again"."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 75
"""Exit status of a run that saved itself on SIGTERM (EX_TEMPFAIL: try again)."""


class Preempted(SystemExit):
    """Ends the process with EXIT_CODE after a checkpoint was written."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


@contextmanager
def watch_termination() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM sets. Outside the main thread, where Python allows no handler, it is never set."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        event.set()

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
