"""Progress of one training on stderr: a bar on a terminal, elsewhere one line a minute."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 60.0


class Progress:
    """Shows steps, loss, rate and time left. `start` is where a resumed run begins."""

    def __init__(self, title: str, steps: int, start: int) -> None:
        self.title, self.steps, self.start = title, steps, start
        self.step, self.loss = start, float("nan")
        self.began = self.last_line = time.monotonic()
        self.bar = (
            tqdm(total=steps, initial=start, desc=title, unit="step", leave=False, file=sys.stderr)
            if sys.stderr.isatty()
            else None
        )

    def show(self, step: int, loss: float) -> None:
        """Report `step` finished steps and the latest training loss (nats per token)."""
        self.step, self.loss = step, loss
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            self.bar.update(step - self.bar.n)
            return
        now = time.monotonic()
        if now - self.last_line < _SECONDS_BETWEEN_LINES:
            return
        self.last_line = now
        rate = (step - self.start) / (now - self.began)
        left = (self.steps - step) / rate / 60 if rate else float("inf")
        print(
            f"{self.title}: step {step}/{self.steps}, loss {loss:.3f}, {rate:.1f} steps/s, {left:.0f} min left",
            file=sys.stderr,
            flush=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        elif kind is None:
            seconds = time.monotonic() - self.began
            print(
                f"{self.title}: {self.step} steps, loss {self.loss:.3f}, {seconds:.0f} s", file=sys.stderr, flush=True
            )
