"""Packed tokens: every shard is one memory-mapped stream of little-endian uint16, end-of-text after every document.

Packing wastes no position on padding, so no loss is ever computed on padding. The shards of a probe hold inputs and
answers instead of text (`evomix.probes`). Legend: n rows, T sequence length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evomix.artifacts import atomic_path, digest_file, read_json, write_json
from evomix.corpus import tokenizer as bpe
from evomix.corpus.documents import SHARDS
from evomix.errors import UserError

DTYPE = np.dtype("<u2")
IGNORED = 65_535
"""Target in a probe's shard at which nothing is asked; no vocabulary has that many tokens."""
_DOCUMENTS_PER_BATCH = 512
_TOKENS_PER_BLOCK = 1 << 24


def _batches(documents: Path) -> Iterator[list[str]]:
    stream = bpe.read_documents(documents)
    while batch := list(islice(stream, _DOCUMENTS_PER_BATCH)):
        yield batch


def encode(tokenizer: Path, documents: Path, output: Path) -> None:
    """Encode one shard's JSONL file into `output` (….bin) and its manifest beside it (….json).

    The manifest gives documents, tokens (end-of-text included), bytes (UTF-8 of the text, without end-of-text), SHA-256
    of the stream, the end-of-text id and the vocabulary.
    """
    output = Path(output)
    codec = bpe.load(tokenizer)
    eot = bpe.end_of_text(codec)
    vocabulary = codec.get_vocab_size()
    if vocabulary > np.iinfo(DTYPE).max + 1:
        raise UserError(f"{tokenizer} has {vocabulary} tokens, more than 16 bits can number; use a smaller vocabulary")
    count = tokens = size = 0
    digest = hashlib.sha256()
    with atomic_path(output) as temporary, temporary.open("wb") as stream:
        for batch in _batches(documents):
            ids: list[int] = []
            for text, encoding in zip(batch, codec.encode_batch_fast(batch), strict=True):
                ids += encoding.ids
                ids.append(eot)
                size += len(text.encode())
            block = np.asarray(ids, dtype=DTYPE).tobytes()
            stream.write(block)
            digest.update(block)
            count += len(batch)
            tokens += len(ids)
    write_json(
        output.with_suffix(".json"),
        "shard",
        {
            "documents": count,
            "tokens": tokens,
            "bytes": size,
            "sha256": digest.hexdigest(),
            "eot": eot,
            "vocabulary": vocabulary,
        },
    )


def _open(folder: Path, shard: str) -> tuple[dict[str, Any], npt.NDArray[np.uint16]]:
    """Return a shard's manifest and its memory-mapped tokens after the cheap check (the size)."""
    path = Path(folder) / f"{shard}.bin"
    manifest = read_json(path.with_suffix(".json"), "shard")
    if not path.is_file():
        raise UserError(f"missing tokens {path}; run the rule that encodes the corpus")
    size, tokens = path.stat().st_size, manifest["tokens"]
    expected = tokens * DTYPE.itemsize if isinstance(tokens, int) else repr(tokens)
    if size != expected:
        raise UserError(f"{path} has {size} bytes where its manifest says {expected}; delete it and encode it again")
    if not size:
        raise UserError(f"{path} holds no token; give the corpus more text")
    return manifest, np.memmap(path, dtype=DTYPE, mode="r")


def verify(folder: Path, shard: str) -> None:
    """Compare a shard's bytes with the digest in its manifest; UserError when they differ."""
    manifest, _ = _open(folder, shard)
    path = Path(folder) / f"{shard}.bin"
    if digest_file(path) != manifest["sha256"]:
        raise UserError(f"{path} does not have the digest in its manifest; delete it and encode it again")


def summarise(folder: Path, output: Path) -> None:
    """Write stats.json: vocabulary, shard manifests, tokens per byte, and the unigram entropy of `train` in nats.

    The digest of this file identifies the corpus (it holds every shard's digest), so it has nothing that varies between
    equal corpora. Bits per byte of a loss in nats per token: loss · tokens_per_byte / ln 2.
    """
    shards, tokens_per_byte = {}, {}
    for name in SHARDS:
        manifest, _ = _open(folder, name)
        shards[name] = {key: manifest[key] for key in ("documents", "tokens", "bytes", "sha256", "eot", "vocabulary")}
        tokens_per_byte[name] = int(manifest["tokens"]) / int(manifest["bytes"])
    vocabularies = {int(shard["vocabulary"]) for shard in shards.values()}
    if len(vocabularies) != 1:
        raise UserError(
            f"the shards in {folder} were encoded by different tokenizers; delete them and encode them again"
        )
    payload = {
        "vocabulary": vocabularies.pop(),
        "shards": shards,
        "tokens_per_byte": tokens_per_byte,
        "unigram_entropy": _entropy(folder),
    }
    write_json(output, "corpus", payload)


def _entropy(folder: Path) -> float:
    """Return the entropy of the token frequencies of `train` in nats: the loss of a model that sees no context."""
    manifest, stream = _open(folder, "train")
    counts = np.zeros(int(manifest["vocabulary"]), dtype=np.int64)
    for start in range(0, len(stream), _TOKENS_PER_BLOCK):
        counts += np.bincount(stream[start : start + _TOKENS_PER_BLOCK], minlength=len(counts))
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


class TokenRows:
    """The rows of a shard: windows of T+1 tokens (T inputs, T targets) at stride T, so every token is a target once.

    A shard whose manifest says `lengths` is a probe's: its rows are T inputs and then T answers, T the longest length.
    """

    def __init__(self, folder: Path, shard: str, sequence_length: int) -> None:
        """Open a shard; UserError when it is missing, of the wrong size, or shorter than one row."""
        manifest, self.stream = _open(folder, shard)
        self.path = folder / f"{shard}.bin"
        self.lengths: list[int] = manifest.get("lengths", [sequence_length])
        self.answers = "lengths" in manifest
        self.sequence_length = self.lengths[-1]
        self.width = 2 * self.sequence_length if self.answers else sequence_length + 1
        self.stride = 2 * self.sequence_length if self.answers else sequence_length
        self.tokens = int(manifest["tokens"])
        self.bytes = int(manifest["bytes"])
        if not len(self):
            raise UserError(
                f"the corpus is too small for the split: shard {shard} has {self.tokens} tokens, a row needs "
                f"{self.width}; give more text or a smaller corpus.sequence_length"
            )

    def __len__(self) -> int:
        return (self.tokens - self.width) // self.stride + 1

    @property
    def tokens_per_byte(self) -> float:
        """Tokens (end-of-text included) per byte of text: turns nats per token into bits per byte."""
        return self.tokens / self.bytes

    def read(self, indices: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Return rows `indices` (n,) as int64 (n, width)."""
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(self):
            raise IndexError(f"row outside 0..{len(self) - 1}")
        starts = np.asarray(indices, dtype=np.int64)[:, None] * self.stride
        rows: npt.NDArray[np.int64] = self.stream[starts + np.arange(self.width)].astype(np.int64)
        return rows
