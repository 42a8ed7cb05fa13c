"""A conversation with a sandboxed process: two pipes, and a thread of ours that talks while the supervisor watches."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable
from typing import BinaryIO

Conversation = Callable[[BinaryIO, BinaryIO], None]
"""Reads from the first stream what the child writes, writes to the second what it reads; returns when all is said."""

_PIPE_BYTES = 1 << 20


class Channel:
    """Two pipes and the thread that holds our end. The child's descriptors are `theirs`: (read, write)."""

    def __init__(self, converse: Conversation) -> None:
        their_read, our_write = os.pipe()
        our_read, their_write = os.pipe()
        for descriptor in (our_write, our_read):
            with contextlib.suppress(OSError):  # an ordinary user may be out of pipe memory: slower, not wrong
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.theirs = (their_read, their_write)
        self._ours = (os.fdopen(our_read, "rb"), os.fdopen(our_write, "wb"))
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(converse,), daemon=True)

    def _run(self, converse: Conversation) -> None:
        try:
            converse(*self._ours)
        except BaseException as error:  # carried to the thread that waits
            self._error = error
        finally:
            with contextlib.suppress(OSError):
                self._ours[1].close()

    def start(self) -> None:
        """Give up our copies of the child's ends and begin to talk."""
        for descriptor in self.theirs:
            os.close(descriptor)
        self.theirs = ()  # type: ignore[assignment]
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the conversation (the child is gone, so it cannot hang) and raise what it raised."""
        self._thread.join()
        if self._error is not None and not isinstance(self._error, EOFError | BrokenPipeError):
            raise self._error

    def close(self) -> None:
        """Close every end that is still open."""
        for descriptor in self.theirs:
            os.close(descriptor)
        for stream in self._ours:
            with contextlib.suppress(OSError):
                stream.close()
