"""Finished results of a run are kept beside it, as hard links that no rule declares, and restored when deleted.

Snakemake deletes the outputs of a failed job and, when several trainings share a cluster job, of all of them. What had
finished by then is restored instead of trained again, if it is still, byte for byte, what was made.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from evomix.artifacts import digest_file, read_json, write_json
from evomix.errors import UserError

RESULTS = ("curve.parquet", "model.safetensors", "timing.json", "summary.json")
_FOLDER, _SEAL = "finished", "seal"


def _kept(folder: Path, name: str) -> Path:
    return folder / _FOLDER / f"{name}.kept"


def _link(source: Path, target: Path) -> None:
    """Link, or copy where the file system has no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def keep(folder: Path) -> None:
    """Keep the finished results of the run in `folder`, with their digests."""
    (folder / _FOLDER / _SEAL).unlink(missing_ok=True)
    (folder / _FOLDER).mkdir(exist_ok=True)
    for name in RESULTS:
        _link(folder / name, _kept(folder, name))
    write_json(folder / _FOLDER / _SEAL, "seal", {"digests": {name: digest_file(folder / name) for name in RESULTS}})


def restore(folder: Path) -> None:
    """Put kept results back into `folder`; damaged ones are removed, so that the run is trained again."""
    if not (folder / _FOLDER).is_dir():
        return
    try:
        digests = read_json(folder / _FOLDER / _SEAL, "seal")["digests"]
        whole = all(digest_file(_kept(folder, name)) == digests[name] for name in RESULTS)
    except (UserError, OSError, KeyError):
        whole = False
    if whole:
        for name in RESULTS:
            _link(_kept(folder, name), folder / name)
    else:
        shutil.rmtree(folder / _FOLDER)
        for name in RESULTS:
            (folder / name).unlink(missing_ok=True)
