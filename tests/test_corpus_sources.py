"""Sources of documents: local files of every kind, mirrors of TinyStories, and one clear sentence for every mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from evomix.artifacts import read_json
from evomix.corpus import documents, sources, tinystories
from evomix.errors import UserError
from evomix.settings import Corpus


def story(number: int) -> str:
    return f"There was a fox with {number} friends. " + "They all lived in the woods. " * 4


def corpus(source: Path | str, **settings: object) -> Corpus:
    return Corpus(source=str(source), vocabulary=300, sequence_length=16, **settings)


def read(path: Path) -> list[str]:
    return list(sources.read_path(str(path)))


def write_lines(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_json_lines(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "a.jsonl", '{"text": " one \\r\\n\\r\\ntwo "}', "", '{"text": "drei ü", "id": 3}', '{"text": " "}'
    )
    assert read(path) == ["one \n\ntwo", "drei ü"]


def test_end_of_text_never_stands_inside_a_document(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", '{"text": "one<|endoftext|>two<|endoftext|>"}')
    assert read(path) == ["one", "two"]


def test_text_with_and_without_marks(tmp_path: Path) -> None:
    plain = write_lines(tmp_path / "plain.txt", "one", "more", "", "", "two", "   ", "three")
    assert read(plain) == ["one\nmore", "two", "three"]
    marked = write_lines(tmp_path / "marked.txt", "one", "", "more", "<|endoftext|>", "two<|endoftext|>three", "end")
    assert read(marked) == ["one\n\nmore", "two", "three\nend"]


def test_parquet_and_folder_in_the_order_of_names(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["p1", "p2"], "n": [1, 2]}).to_parquet(tmp_path / "b.parquet")
    write_lines(tmp_path / "a/x.jsonl", '{"text": "j"}')
    write_lines(tmp_path / "c.txt", "t")
    write_lines(tmp_path / "readme.md", "ignored")
    assert read(tmp_path) == ["j", "p1", "p2", "t"]


MISTAKES = {
    "line.jsonl": (b'{"text": "a"}\n{"text": \n', r"line\.jsonl, line 2: not JSON"),
    "list.jsonl": (b"[1]\n", r"list\.jsonl, line 1: no text column \(found a list\)"),
    "column.jsonl": (b'{"body": "a"}\n', r"column\.jsonl, line 1: no text column \(found only body\)"),
    "number.jsonl": (b'{"text": 3}\n', r"number\.jsonl, line 1: column text is 3"),
    "surrogate.jsonl": (b'{"text": "\\ud83d"}\n', r"surrogate\.jsonl, line 1: .*not valid Unicode"),
    "latin.jsonl": (b'{"text": "a"}\n{"text": "\xe9"}\n', r"latin\.jsonl, line 2: not valid UTF-8"),
    "latin.txt": (b"ok\n\nna\xefve\n", r"latin\.txt, line 3: not valid UTF-8"),
    "torn.parquet": (b"PAR1 no", r"torn\.parquet is not a readable Parquet file"),
    "story.pdf": (b"%PDF", r"is no text corpus; its name must end in"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_a_file_are_named(tmp_path: Path, name: str) -> None:
    content, message = MISTAKES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path / name)


def test_parquet_without_text_column_or_with_empty_cells(tmp_path: Path) -> None:
    pd.DataFrame({"story": ["a"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: no text column \(found only story\)"):
        read(tmp_path / "a.parquet")
    pd.DataFrame({"text": ["a", None]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"b\.parquet, row 2: column text is None"):
        read(tmp_path / "b.parquet")


def test_missing_and_empty_sources(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.jsonl does not exist"):
        read(tmp_path / "nowhere.jsonl")
    with pytest.raises(UserError, match="folder without files ending in"):
        read(tmp_path)
    write_lines(tmp_path / "empty.txt", "", " ")
    with pytest.raises(UserError, match="holds no document"):
        documents.collect(corpus(tmp_path / "empty.txt"), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir()), "a failed collection leaves nothing behind"


def test_corpus_too_small_for_the_split(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "few.jsonl", *(json.dumps({"text": story(number)}) for number in range(3)))
    with pytest.raises(UserError, match=r"too small for the split: shard \w+ has \d of 3 documents"):
        documents.collect(corpus(path), tmp_path / "out")


@pytest.fixture(scope="module")
def mirrors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same small dataset as `save_to_disk` leaves it and as the hub stores it."""
    import datasets

    folder = tmp_path_factory.mktemp("mirrors")
    train = datasets.Dataset.from_dict({"text": [story(number % 250) for number in range(300)]})
    validation = datasets.Dataset.from_dict({"text": [story(number) for number in range(200, 300)]})
    datasets.DatasetDict({"train": train, "validation": validation}).save_to_disk(str(folder / "saved"))
    hub = folder / "hub/data"
    hub.mkdir(parents=True)
    train.select(range(150)).to_parquet(hub / "train-00000-of-00002-2d5a1467fff1081b.parquet")
    train.select(range(150, 300)).to_parquet(hub / "train-00001-of-00002-5852b56a2bd28fd9.parquet")
    validation.to_parquet(hub / "validation-00000-of-00001-869c898b519ad725.parquet")
    (folder / "hub/README.md").write_text("---\nlicense: cdla-sharing-1.0\n---\nStories.\n")
    return folder


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the caches of `datasets` out of the home folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("kind", ["saved", "hub"])
@pytest.mark.usefixtures("quiet")
def test_tinystories_from_a_local_mirror(mirrors: Path, tmp_path: Path, kind: str) -> None:
    documents.collect(corpus("tinystories", dataset=str(mirrors / kind)), tmp_path / "out")
    shards = {
        shard: {json.loads(line)["text"] for line in (tmp_path / f"out/{shard}.jsonl").read_text().splitlines()}
        for shard in documents.SHARDS
    }
    held_out = shards["search"] | shards["selection"] | shards["test"]
    assert held_out == {story(number).strip() for number in range(200, 300)}, "the validation split, whole"
    assert shards["train"] == {story(number).strip() for number in range(200)}, "stories of both splits leave train"
    assert min(len(shards[shard]) for shard in documents.HELD_OUT) >= 20
    manifest = read_json(tmp_path / "out/documents.json", "documents")
    assert (manifest["source"], manifest["duplicates"]) == (kind, 100)


@pytest.mark.usefixtures("quiet")
def test_mistakes_in_a_mirror_are_named(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"cannot open dataset .*none as a local mirror \(.*corpus\.dataset"):
        tinystories.open_dataset(str(tmp_path / "none"))
    (tmp_path / "half").mkdir()
    pd.DataFrame({"text": ["a"]}).to_parquet(tmp_path / "half/train-0.parquet")
    with pytest.raises(UserError, match=r"has no split validation \(found train\)"):
        tinystories.open_dataset(str(tmp_path / "half"))
    (tmp_path / "column").mkdir()
    for split in ("train", "validation"):
        pd.DataFrame({"story": ["a"]}).to_parquet(tmp_path / f"column/{split}-0.parquet")
    with pytest.raises(UserError, match=r"no text column"):
        documents.collect(corpus("tinystories", dataset=str(tmp_path / "column")), tmp_path / "out")


def test_unreachable_hub_names_the_mend(tmp_path: Path) -> None:
    code = (
        "from evomix.corpus import tinystories\nfrom evomix.errors import UserError\n"
        "try:\n    tinystories.open_dataset('roneneldan/TinyStories')\nexcept UserError as error:\n    print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot open dataset roneneldan/TinyStories on the hub" in result.stdout
    assert "set corpus.dataset to a local mirror" in result.stdout
