"""Corpus, end to end on small corpora: documents, shards, tokenizer, packed tokens, statistics, batch order."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from evomix.artifacts import digest_file, read_json
from evomix.corpus import documents, tokenizer, tokens
from evomix.corpus.batches import batch_indices
from evomix.errors import UserError
from evomix.settings import Corpus


def corpus(**settings: object) -> Corpus:
    return Corpus(**({"source": "grammar", "stories": 400, "vocabulary": 400, "sequence_length": 32} | settings))


def texts(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete small corpus of the story grammar."""
    folder = tmp_path_factory.mktemp("corpus")
    documents.collect(corpus(), folder / "documents")
    tokenizer.train(folder / "documents/train.jsonl", 400, folder / "tokenizer.json")
    for shard in documents.SHARDS:
        tokens.encode(folder / "tokenizer.json", folder / f"documents/{shard}.jsonl", folder / f"{shard}.bin")
    tokens.summarise(folder, folder / "stats.json")
    return folder


def test_shards_are_disjoint_and_complete(built: Path) -> None:
    shards = {shard: texts(built / f"documents/{shard}.jsonl") for shard in documents.SHARDS}
    every = [text for shard in shards.values() for text in shard]
    assert len(every) == len(set(every)) == 400
    assert all(10 <= len(shards[shard]) <= 35 for shard in documents.HELD_OUT), "5 % each of 400"


def test_manifest_describes_the_files(built: Path) -> None:
    manifest = read_json(built / "documents/documents.json", "documents")
    for shard in documents.SHARDS:
        path = built / f"documents/{shard}.jsonl"
        record = manifest["shards"][shard]
        assert record["sha256"] == digest_file(path)
        assert record["documents"] == len(texts(path))
        assert record["bytes"] == sum(len(text.encode()) for text in texts(path))


def test_shard_depends_on_the_text_alone(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"Story number {number}. " + "It goes on. " * 9}) for number in range(200)]
    for name, order in (("a", lines), ("b", lines[::-1] + lines[:50])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(order))
        documents.collect(corpus(source=str(tmp_path / f"{name}.jsonl")), tmp_path / name)
    for shard in documents.SHARDS:
        assert set(texts(tmp_path / f"a/{shard}.jsonl")) == set(texts(tmp_path / f"b/{shard}.jsonl"))
    assert read_json(tmp_path / "a/documents.json", "documents")["duplicates"] == 0
    assert read_json(tmp_path / "b/documents.json", "documents")["duplicates"] == 50


def test_held_out_share_is_divided_equally() -> None:
    counts = Counter(documents.shard_of(str(number), 0.3) for number in range(20_000))
    for shard in documents.HELD_OUT:
        assert abs(counts[shard] - 2_000) < 4 * math.sqrt(20_000 * 0.1 * 0.9)
    assert {documents.shard_of(str(number), 1.0) for number in range(100)} == set(documents.HELD_OUT)


def test_stream_decodes_to_the_documents(built: Path) -> None:
    codec = tokenizer.load(built / "tokenizer.json")
    stream = np.fromfile(built / "test.bin", dtype="<u2")
    manifest = read_json(built / "test.json", "shard")
    ends = np.flatnonzero(stream == manifest["eot"])
    parts = np.split(stream, ends + 1)
    assert len(parts.pop()) == 0, "the stream ends with end-of-text"
    assert [codec.decode(part[:-1].tolist()) for part in parts] == texts(built / "documents/test.jsonl")
    assert (manifest["documents"], manifest["tokens"]) == (len(ends), len(stream))
    assert manifest["sha256"] == digest_file(built / "test.bin")


@pytest.mark.parametrize("text", ["naïve café 東京 🦊", "tabs\tand\n\nnewlines  ", "\x00\x7f", " leading space"])
def test_any_text_survives_the_tokenizer(built: Path, text: str) -> None:
    codec = tokenizer.load(built / "tokenizer.json")
    assert codec.decode(codec.encode(text).ids) == text


def test_tokenizer_training_is_deterministic(built: Path, tmp_path: Path) -> None:
    for number in ("1", "3"):
        code = (
            "import sys; from pathlib import Path; from evomix.corpus import tokenizer; "
            "tokenizer.train(Path(sys.argv[1]), 400, Path(sys.argv[2]))"
        )
        subprocess.run(
            [sys.executable, "-c", code, str(built / "documents/train.jsonl"), str(tmp_path / f"{number}.json")],
            env=os.environ | {"PYTHONHASHSEED": number, "RAYON_NUM_THREADS": number, "TOKENIZERS_PARALLELISM": "true"},
            check=True,
        )
        assert (tmp_path / f"{number}.json").read_bytes() == (built / "tokenizer.json").read_bytes()


def test_vocabulary_is_exact_and_limited(built: Path, tmp_path: Path) -> None:
    assert tokenizer.load(built / "tokenizer.json").get_vocab_size() == 400
    with pytest.raises(UserError, match=r"corpus.vocabulary is 60000, .* supports only (\d+) tokens") as caught:
        tokenizer.train(built / "documents/test.jsonl", 60_000, tmp_path / "no.json")
    supported = int(str(caught.value).split("only ")[1].split()[0])
    tokenizer.train(built / "documents/test.jsonl", supported, tmp_path / "yes.json")
    assert tokenizer.load(tmp_path / "yes.json").get_vocab_size() == supported


def test_statistics(built: Path) -> None:
    stats = read_json(built / "stats.json", "corpus")
    counts = Counter(np.fromfile(built / "train.bin", dtype="<u2").tolist())
    total = counts.total()
    assert stats["unigram_entropy"] == pytest.approx(-sum(c / total * math.log(c / total) for c in counts.values()))
    assert stats["vocabulary"] == 400
    manifest = read_json(built / "search.json", "shard")
    assert stats["tokens_per_byte"]["search"] == manifest["tokens"] / manifest["bytes"]
    assert stats["shards"]["search"]["sha256"] == digest_file(built / "search.bin")


def test_statistics_refuse_mixed_tokenizers(built: Path, tmp_path: Path) -> None:
    for path in built.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tokenizer.train(built / "documents/train.jsonl", 300, tmp_path / "tokenizer.json")
    tokens.encode(tmp_path / "tokenizer.json", built / "documents/test.jsonl", tmp_path / "test.bin")
    with pytest.raises(UserError, match="different tokenizers"):
        tokens.summarise(tmp_path, tmp_path / "stats.json")


def test_rows_cover_every_target_once(built: Path) -> None:
    rows = tokens.TokenRows(built, "test", 32)
    stream = np.fromfile(built / "test.bin", dtype="<u2")
    assert len(rows) == (len(stream) - 1) // 32
    block = rows.read(np.arange(len(rows)))
    assert block.shape == (len(rows), 33)
    assert block.dtype == np.int64
    np.testing.assert_array_equal(block[:, 1:].ravel(), stream[1 : 1 + 32 * len(rows)])
    np.testing.assert_array_equal(block[:, :-1].ravel(), stream[: 32 * len(rows)])
    np.testing.assert_array_equal(rows.read(np.array([3, 1, 3])), block[[3, 1, 3]])
    for index in (-1, len(rows)):
        with pytest.raises(IndexError):
            rows.read(np.array([index]))


def test_damaged_tokens_are_refused(built: Path, tmp_path: Path) -> None:
    for path in built.glob("test.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tokens.verify(tmp_path, "test")
    whole = (tmp_path / "test.bin").read_bytes()
    (tmp_path / "test.bin").write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(UserError, match="does not have the digest"):
        tokens.verify(tmp_path, "test")
    (tmp_path / "test.bin").write_bytes(whole[:-2])
    with pytest.raises(UserError, match=f"has {len(whole) - 2} bytes where its manifest says {len(whole)}"):
        tokens.TokenRows(tmp_path, "test", 32)
    (tmp_path / "test.bin").unlink()
    with pytest.raises(UserError, match="missing tokens"):
        tokens.TokenRows(tmp_path, "test", 32)
    with pytest.raises(UserError, match="too small for the split: shard test has"):
        tokens.TokenRows(built, "test", 1_000_000)


@pytest.mark.parametrize(("rows", "batch"), [(7, 3), (64, 64), (100, 1), (5, 4)])
def test_every_row_comes_once_per_epoch(rows: int, batch: int) -> None:
    order = np.concatenate([batch_indices(rows, batch, 5, step) for step in range(3 * rows)])
    epochs = order[: len(order) // rows * rows].reshape(-1, rows)
    assert (np.sort(epochs, axis=1) == np.arange(rows)).all()


def test_batch_order_is_a_pure_function_of_seed_and_step() -> None:
    backwards = {step: batch_indices(50, 8, 1, step) for step in reversed(range(20))}
    for step in range(20):
        np.testing.assert_array_equal(batch_indices(50, 8, 1, step), backwards[step])
        assert batch_indices(50, 8, 1, step).dtype == np.int64
    assert any((batch_indices(50, 8, 2, step) != backwards[step]).any() for step in range(20))
    with pytest.raises(UserError, match="7 rows, fewer than one batch of 8"):
        batch_indices(7, 8, 1, 0)


def test_batch_order_is_the_same_in_another_process() -> None:
    code = "from evomix.corpus.batches import batch_indices; print(batch_indices(1000, 6, 42, 333).tolist())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(other) == batch_indices(1000, 6, 42, 333).tolist() == [832, 572, 851, 860, 805, 853]
