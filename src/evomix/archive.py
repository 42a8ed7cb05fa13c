"""A study packed for archiving: results, sources and Snakemake's records in one ZIP that is a Workflow Run RO-Crate.

Unpacked, it is a working clone: Snakemake finds its records and redoes nothing, and the crate's metadata says which
workflow made which file, from which config, when and by which versions.
"""

from __future__ import annotations

import base64
import json
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rocrate.rocrate import ROCrate

from evomix.artifacts import atomic_path, digest_file
from evomix.errors import UserError
from evomix.provenance import provenance

SOURCES = (
    "Snakefile", "workflow", "config", "src", "envs", "profiles", "PROTOCOL.md", "README.md", "LICENSE", "CITATION.cff",
    "Makefile", "pyproject.toml", "constraints.txt",
)  # fmt: skip
"""What a clone needs to run, and to be understood."""
RECORDS = Path(".snakemake/metadata")
PROFILES = (
    "https://w3id.org/ro/wfrun/process/0.5",
    "https://w3id.org/ro/wfrun/workflow/0.5",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.1",
)
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
_SKIPPED = ("__pycache__", ".egg-info")


def pack(root: Path, results: Path, output: Path) -> None:
    """Write the archive `output` of the study whose results lie in `results`, a folder of the clone `root`.

    The results of other presets, which lie below those of the paper, stay out. Raises UserError when there are no
    results, or when Snakemake has no record of them: they could not be told from files of unknown origin.
    """
    others = [folder for folder in (root / results).glob("*/") if (folder / "logs/.writable").is_file()]
    made = [path for path in _below(root, results) if not any((root / path).is_relative_to(item) for item in others)]
    records = _records(root, made)
    if not records:
        raise UserError(f"no recorded result under {results}; run the workflow first, then archive")
    sources = [path for name in SOURCES for path in _below(root, Path(name))]
    crate = _describe(root, results, sources, made, [record for _, record in records])
    with atomic_path(output) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ro-crate-metadata.json", json.dumps(crate.metadata.generate(), indent=1))
        for path in [*sources, *made, *(path for path, _ in records)]:
            archive.write(root / path, path.as_posix())


def _below(root: Path, part: Path) -> list[Path]:
    """Return the visible files of a file or folder, relative to `root`, in order."""
    place = root / part
    found = [place] if place.is_file() else place.rglob("*")
    relative = (path.relative_to(root) for path in found if path.is_file())
    return sorted(
        path
        for path in relative
        if not any(name.startswith(".") or name.endswith(_SKIPPED) for name in path.parts) and path.suffix != ".zip"
    )


def _records(root: Path, made: list[Path]) -> list[tuple[Path, dict[str, Any]]]:
    """Return Snakemake's records of the files made (or of folders that hold them), as (file, content)."""
    names = {str(part) for path in made for part in (path, *path.parents)}
    found = []
    for path in sorted((root / RECORDS).rglob("*")):
        if path.is_file() and _target(path.relative_to(root / RECORDS)) in names:
            found.append((path.relative_to(root), json.loads(path.read_text(encoding="utf-8"))))
    return found


def _target(record: Path) -> str:
    """Return the file that a record is about: Snakemake names records by the path in base 64, cut into folders."""
    encoded = "".join(part.removeprefix("@") for part in record.parts)
    try:
        return base64.urlsafe_b64decode(encoded.encode()).decode()
    except ValueError:
        return ""


def _describe(
    root: Path, results: Path, sources: list[Path], made: list[Path], records: list[dict[str, Any]]
) -> ROCrate:
    """Return the crate: the workflow, its run, what the run read and made."""
    block = provenance("evomix.cli")
    crate = ROCrate(version="1.1")  # the version that the profiles below extend
    crate.metadata.extra_contexts.append(TERMS)
    crate.name = f"evomix study: {results.name}"
    crate.description = "A study of evolved sequence mixers: results, the workflow that made them, and its records."
    crate.license = "https://spdx.org/licenses/MIT"
    workflow = crate.add_workflow(
        str(root / "Snakefile"), "Snakefile", main=True, lang="snakemake", lang_version=block["packages"]["snakemake"]
    )
    workflow["version"] = block["commit"]
    crate.root_dataset["conformsTo"] = [
        crate.add_or_update_jsonld({"@id": name, "@type": "CreativeWork", "version": name.rsplit("/", 1)[1]})
        for name in PROFILES
    ]
    entities = {path: _file(crate, root, path) for path in [*sources, *made] if path != Path("Snakefile")}
    finished = (root / results / "report.html").is_file()
    crate.add_action(
        workflow,
        object=[entity for path, entity in entities.items() if path.parts[0] == "config" or path.name == "PROTOCOL.md"],
        result=[entities[path] for path in made],
        properties={
            "name": f"Run of the study {results.name}",
            "startTime": _time(min(record["starttime"] for record in records)),
            "endTime": _time(max(record["endtime"] for record in records)),
            "actionStatus": f"http://schema.org/{'CompletedActionStatus' if finished else 'ActiveActionStatus'}",
            "description": json.dumps(block, sort_keys=True),
        },
    )
    return crate


def _file(crate: ROCrate, root: Path, path: Path) -> Any:
    place = root / path
    properties = {"name": path.as_posix(), "contentSize": str(place.stat().st_size), "sha256": digest_file(place)}
    return crate.add_file(str(place), path.as_posix(), properties=properties)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def check(archive: Path) -> int:
    """Read an archive back and return its number of files; UserError naming the first that is lost or changed."""
    with tempfile.TemporaryDirectory() as name, zipfile.ZipFile(archive) as packed:
        packed.extractall(name)
        crate = ROCrate(name)
        files = [entity for entity in crate.data_entities if "sha256" in entity.properties()]
        for entity in files:
            path = Path(name, entity.id)
            if not path.is_file() or digest_file(path) != entity["sha256"]:
                raise UserError(f"{archive}: {entity.id} is not what the metadata says; pack the study again")
        return len(files)
