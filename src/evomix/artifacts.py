"""Artifacts on disk: canonical JSON with a schema name, atomic writes, digests, and clear errors on reading."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomix.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
"""Errors of writing that are the disk's and not of whatever else a writer does."""


class Record(dict[str, Any]):
    """A JSON object that knows its file: asking for a key that it lacks is one sentence, at whatever depth."""

    path: Path

    def __missing__(self, key: str) -> Any:
        raise UserError(
            f"{self.path} lacks the key `{key}`, which this evomix reads; delete it and run again, or use the evomix "
            "that wrote it"
        )

    def merged(self, other: dict[str, Any]) -> Record:
        """Return this record with the keys of another set beside or over its own, still of this file."""
        both = Record({**self, **other})
        both.path = self.path
        return both


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that is synced and renamed onto it on success, and removed on failure.

    A reader therefore sees the old file or the complete new one, never a part.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _unwritable(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        try:
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
        except OSError as error:
            raise _unwritable(path, error) from error
    except OSError as error:
        if error.errno in _FULL:
            raise _unwritable(path, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {path}: {error.strerror}; check the folder's permissions and disk space")


def _finite(value: Any) -> Any:
    """Replace NaN and infinities by None (JSON has neither), recursively; NumPy scalars become Python's."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, two-space indent, non-finite numbers as null, final newline."""
    return json.dumps(_finite(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically (UTF-8, newline as given)."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, schema: str, payload: dict[str, Any]) -> None:
    """Write `payload` as canonical JSON with `schema` and the schema version, atomically."""
    write_text(path, canonical_json({"schema": schema, "schema_version": SCHEMA_VERSION, **payload}))


def read_text(path: Path) -> str:
    """Read a UTF-8 text; UserError when it is missing, unreadable or of another encoding."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"missing file {path}; run the rule that makes it") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check its permissions") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason}); write it anew") from None


def parse_json(path: Path, text: str) -> Any:
    """Return the JSON value in `text`, the content of `path`, with objects as Records; UserError when it is none."""

    def record(pairs: dict[str, Any]) -> Record:
        found = Record(pairs)
        found.path = path
        return found

    try:
        return json.loads(text, object_hook=record)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON ({error}); delete it and run the workflow again") from None


def read_json(path: Path, schema: str) -> dict[str, Any]:
    """Read an artifact written by `write_json`.

    Raises UserError when the file is missing, not JSON, or of another schema or version, and later when a key is asked
    for that it lacks.
    """
    path = Path(path)
    content = parse_json(path, read_text(path))
    if not isinstance(content, dict) or content.get("schema") != schema:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path} is a {found!r} where a {schema!r} is expected; delete it and run again")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {content.get('schema_version')}, this evomix reads {SCHEMA_VERSION}; "
            "delete it and run again, or use the evomix that wrote it"
        )
    return content


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write `frame` as Parquet (zstd, no index, no time stamps), atomically: same rows, same bytes."""
    with atomic_path(path) as temporary:
        frame.to_parquet(temporary, index=False, compression="zstd")


def read_table(path: Path) -> pd.DataFrame:
    """Read a Parquet table; UserError when it is missing or damaged."""
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise UserError(f"missing table {path}; run the rule that makes it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable Parquet table ({error}); delete it and run again") from None


def digest_text(text: str) -> str:
    """Return the SHA-256 of `text` in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of the file's bytes in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
