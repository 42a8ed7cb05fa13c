"""Several trainings at once, each in a process of its own that ends with this one and is told when this one is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from types import FrameType

from evomix.gate.confine import follow_parent
from evomix.training.preemption import EXIT_CODE, Preempted

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def side_by_side(tasks: Sequence[Callable[[], object]]) -> None:
    """Carry out every task in a child process; SIGTERM and SIGINT to this one become SIGTERM to all of them.

    A child that fails or is killed leaves its work undone and the others alone: the caller looks at what was finished.
    Ends this process through Preempted, after all children, when it or one of them was asked to stop.
    """
    children: list[int] = []
    told = False

    def hand_on(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True
        for child in children:  # one that has ended stays a zombie until all have, so its number is still its own
            os.kill(child, signal.SIGTERM)

    previous = {number: signal.signal(number, hand_on) for number in _SIGNALS}
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # none comes between a child's birth and its own handlers
    try:
        children.extend(_start(task) for task in tasks)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        for child in children:
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if told or EXIT_CODE in statuses:
        raise Preempted


def _start(task: Callable[[], object]) -> int:
    """Carry out `task` in a child; return its number. Its exit status is that of SystemExit, 1 for another error."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        follow_parent(parent)
        task()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    finally:
        os._exit(status)  # what the parent has open is neither flushed nor cleaned up twice
