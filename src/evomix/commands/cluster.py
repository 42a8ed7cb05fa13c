"""Commands about a cluster: the check of a site, and the tiny job that it sends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evomix.errors import UserError


def check_cluster(
    profile: Annotated[Path, typer.Argument(help="folder of a profile")] = Path("profiles/slurm"),
    preset: Annotated[str, typer.Option("--preset", help="whose resources are asked for")] = "paper",
) -> None:
    """Send one tiny job of every kind through PROFILE and say in words what is wrong."""
    from evomix.cluster import check

    wrong = check.check(profile, preset)
    if wrong:
        raise UserError("the cluster is not ready\n" + "\n".join(f"  - {sentence}" for sentence in wrong))
    print(f"all kinds of jobs run through {profile}")


def probe_node(
    kind: str,
    output: Path,
    gpus: Annotated[int, typer.Option("--gpus")] = 0,
) -> None:
    """Write what this machine offers a job."""
    from evomix.cluster import probe

    probe.probe(kind, output, gpus)
