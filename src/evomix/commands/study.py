"""Commands about a study as a whole."""

from __future__ import annotations

import sys

from evomix.commands.analysis import Results


def why(results: Results) -> None:
    """Say in words what a dry run, read from standard input, would run and why."""
    from evomix import why as reasons

    print(reasons.explain(sys.stdin.read(), results / "logs" / "code"))
