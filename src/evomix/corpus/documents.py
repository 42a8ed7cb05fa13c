"""From a source to four JSONL files of documents: exact duplicates removed, held-out shards disjoint by document.

A document's shard is decided by a hash of its text, never by its position: another order of the files, or more of
them, moves no document from one shard to another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from evomix.artifacts import atomic_path, write_json
from evomix.corpus import sources, tinystories
from evomix.errors import UserError
from evomix.settings import Corpus

HELD_OUT = ("search", "selection", "test")
SHARDS = ("train", *HELD_OUT)


def shard_of(text: str, held_out: float) -> str:
    """Return the shard of a document: a share `held_out` falls into search, selection and test, in equal parts."""
    draw = int.from_bytes(hashlib.sha256(b"shard\0" + text.encode()).digest()[:8], "big") / 2**64
    return HELD_OUT[min(int(3 * draw / held_out), 2)] if draw < held_out else "train"


def _assigned(corpus: Corpus) -> Iterator[tuple[str, str]]:
    """Yield (shard, document) from the configured source."""
    if corpus.source == "tinystories":
        dataset = tinystories.open_dataset(corpus.dataset)
        # Validation first: a story in both splits is then dropped from training, not from the held-out text.
        for text in tinystories.read_split(dataset, corpus.dataset, "validation"):
            yield shard_of(text, 1.0), text
        for text in tinystories.read_split(dataset, corpus.dataset, "train"):
            yield "train", text
    elif corpus.source == "grammar":
        for text in sources.read_grammar(corpus.stories):
            yield shard_of(text, corpus.held_out), text
    else:
        for text in sources.read_path(corpus.source):
            yield shard_of(text, corpus.held_out), text


class _Shard:
    """One growing JSONL file with its counts."""

    def __init__(self, stream: BinaryIO) -> None:
        self.documents = 0
        self.bytes = 0
        self._stream = stream
        self._digest = hashlib.sha256()

    def add(self, text: str) -> None:
        line = (json.dumps({"text": text}, ensure_ascii=False) + "\n").encode()
        self._stream.write(line)
        self._digest.update(line)
        self.documents += 1
        self.bytes += len(text.encode())

    def record(self) -> dict[str, int | str]:
        return {"documents": self.documents, "bytes": self.bytes, "sha256": self._digest.hexdigest()}


def collect(corpus: Corpus, folder: Path) -> None:
    """Write folder/{train,search,selection,test}.jsonl ({"text": …} per line) and folder/documents.json.

    Memory: 16 bytes of digest per document (about 250 MB of Python for TinyStories), never the text. The manifest
    gives documents, bytes (UTF-8 of the text alone) and SHA-256 of every file, and the number of duplicates dropped.
    Raises UserError when the source is missing, empty, malformed, or too small for its four shards.
    """
    seen: set[bytes] = set()
    duplicates = 0
    with ExitStack() as stack:
        shards = {}
        for name in SHARDS:
            temporary = stack.enter_context(atomic_path(folder / f"{name}.jsonl"))
            shards[name] = _Shard(stack.enter_context(temporary.open("wb")))
        for name, text in _assigned(corpus):
            key = hashlib.sha256(text.encode()).digest()[:16]
            if key in seen:
                duplicates += 1
                continue
            seen.add(key)
            shards[name].add(text)
        _check_sizes(corpus, shards)
    write_json(
        folder / "documents.json",
        "documents",
        {
            "source": Path(corpus.dataset if corpus.source == "tinystories" else corpus.source).name,
            "duplicates": duplicates,
            "shards": {name: shard.record() for name, shard in shards.items()},
        },
    )


def _check_sizes(corpus: Corpus, shards: dict[str, _Shard]) -> None:
    """Refuse a split that cannot fill one training row per shard (a token is at least one byte)."""
    total = sum(shard.documents for shard in shards.values())
    if not total:
        raise UserError(f"corpus.source {corpus.source} holds no document; give a file or folder with text")
    for name, shard in shards.items():
        if shard.bytes + shard.documents <= corpus.sequence_length:
            raise UserError(
                f"the corpus is too small for the split: shard {name} has {shard.documents} of {total} documents "
                f"({shard.bytes} bytes), less than one row of {corpus.sequence_length} tokens; give more text, a "
                f"larger "
                "corpus.held_out or a smaller corpus.sequence_length"
            )
