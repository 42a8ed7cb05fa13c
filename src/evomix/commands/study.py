"""Commands about a study as a whole."""

from __future__ import annotations

import sys
from pathlib import Path

from evomix.commands.analysis import Results
from evomix.commands.options import Output


def why(results: Results) -> None:
    """Say in words what a dry run, read from standard input, would run and why."""
    from evomix import why as reasons

    print(reasons.explain(sys.stdin.read(), results / "logs" / "code"))


def archive(results: Results, output: Output) -> None:
    """Pack the study into the ZIP file OUTPUT, a Workflow Run RO-Crate, and read it back."""
    from evomix import archive as archiving

    archiving.pack(Path(), results, output)
    print(f"{output}: {archiving.check(output)} files, each as its metadata says")
