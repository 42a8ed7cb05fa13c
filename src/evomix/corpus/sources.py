"""Sources of documents: the story grammar, local files, and the TinyStories dataset, all read as streams.

Every source yields clean documents: stripped, Unix newlines, never empty, and cut at the end-of-text token, which
therefore never stands inside a document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evomix.corpus import grammar
from evomix.errors import UserError

END_OF_TEXT = "<|endoftext|>"
SUFFIXES = (".jsonl", ".ndjson", ".txt", ".text", ".parquet")
GRAMMAR_SEED = 1
_ROWS = 1_024


def clean(text: str) -> Iterator[str]:
    """Yield the documents in `text`: the stripped parts between end-of-text tokens."""
    for part in text.replace("\r\n", "\n").split(END_OF_TEXT):
        if document := part.strip():
            yield document


def read_grammar(stories: int) -> Iterator[str]:
    """Yield stories of our own grammar."""
    return grammar.stories(GRAMMAR_SEED, stories)


def read_path(source: str) -> Iterator[str]:
    """Yield the documents of a file, or of all text files below a folder in the order of their names.

    Raises UserError when the path is missing, of an unknown kind, or malformed (with the file and the line or row).
    """
    for file in files(source):
        yield from _read_file(file)


def files(source: str) -> list[Path]:
    """Return the text files that a path names: itself, or those below a folder in the order of their names.

    Raises UserError when the path is missing, of an unknown kind, or a folder without text.
    """
    path = Path(source).expanduser()
    if path.is_file() and path.suffix not in SUFFIXES:
        raise UserError(f"corpus.source {source} is no text corpus; its name must end in {', '.join(SUFFIXES)}")
    if path.is_dir():
        found = sorted(item for item in path.rglob("*") if item.suffix in SUFFIXES and item.is_file())
        if not found:
            raise UserError(
                f"corpus.source {source} is a folder without files ending in {', '.join(SUFFIXES)}; add some"
            )
        return found
    if path.is_file():
        return [path]
    raise UserError(
        f"corpus.source {source} does not exist; give `grammar`, `tinystories` or the path of a file or folder"
    )


def _read_file(file: Path) -> Iterator[str]:
    reader = {".parquet": _parquet, ".txt": _text, ".text": _text}.get(file.suffix, _json_lines)
    try:
        for text in reader(file):
            yield from clean(text)
    except PermissionError as error:
        raise UserError(f"cannot read {file}: {error.strerror}; check the file's permissions") from error


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered lines, decoded strictly."""
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{file}, line {number}: not valid UTF-8 ({error.reason}); convert the file") from None


def _column(row: Any, where: str) -> str:
    """Return a row's text, or say what is wrong with the row."""
    if not isinstance(row, dict) or "text" not in row:
        found = f"only {', '.join(map(str, row)) or 'nothing'}" if isinstance(row, dict) else f"a {type(row).__name__}"
        raise UserError(f'{where}: no text column (found {found}); each row must be {{"text": "…"}}')
    text = row["text"]
    if not isinstance(text, str):
        raise UserError(f"{where}: column text is {text!r}; it must be a string")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{where}: column text is not valid Unicode (half of a surrogate pair); mend the line"
        ) from None
    return text


def _json_lines(file: Path) -> Iterator[str]:
    for number, line in _lines(file):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f'{where}: not JSON ({error.msg}); each line must be {{"text": "…"}}') from None
        yield _column(row, where)


def _text(file: Path) -> Iterator[str]:
    """Yield documents of a text file: divided by end-of-text tokens, or by empty lines in a file that has none."""
    marked = any(END_OF_TEXT in line for _, line in _lines(file))
    held: list[str] = []
    for _, line in _lines(file):
        if END_OF_TEXT in line if marked else not line.strip():
            *ends, rest = line.split(END_OF_TEXT) if marked else ("", "")
            yield END_OF_TEXT.join(["".join(held) + ends[0], *ends[1:]])
            held = [rest]
        else:
            held.append(line)
    yield "".join(held)


def _parquet(file: Path) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        if "text" not in table.schema_arrow.names:
            found = ", ".join(table.schema_arrow.names)
            raise UserError(f"{file}: no text column (found only {found}); rename the column that holds the stories")
        row = 0
        for batch in table.iter_batches(batch_size=_ROWS, columns=["text"]):
            for value in batch.column(0).to_pylist():
                row += 1
                yield _column({"text": value}, f"{file}, row {row}")
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(
            f"{file} is not a readable Parquet file ({str(error).splitlines()[0]}); fetch it again"
        ) from None
