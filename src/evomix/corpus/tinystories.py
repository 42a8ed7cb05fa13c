"""The TinyStories dataset (Eldan & Li 2023, arXiv 2305.07759) through `datasets`: the hub, or a local mirror."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evomix.corpus.sources import clean
from evomix.errors import UserError

_MEND = (
    "set corpus.dataset to a local mirror (a folder of train-*.parquet and validation-*.parquet, or of save_to_disk)"
)


def open_dataset(name: str) -> Any:
    """Open the splits `train` and `validation` of `name`: a local mirror if such a folder exists, otherwise the hub.

    A mirror is a folder written by `save_to_disk` or one with the hub's Parquet files; it is streamed from where it
    lies. The hub's files are fetched once into the cache of `datasets`. Raises UserError when there is nothing to open.
    """
    import datasets

    folder = Path(name).expanduser()
    try:
        if (folder / "dataset_dict.json").is_file():
            splits = datasets.load_from_disk(str(folder))
        elif folder.is_dir():
            splits = datasets.load_dataset(str(folder), streaming=True)
        else:
            splits = datasets.load_dataset(name)
    except (OSError, ValueError) as error:
        kind = "as a local mirror" if folder.is_dir() else "on the hub"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot open dataset {name} {kind} ({reason}); {_MEND}") from None
    for split in ("train", "validation"):
        if split not in splits:
            raise UserError(f"dataset {name} has no split {split} (found {', '.join(splits)}); {_MEND}")
        columns = splits[split].column_names
        if columns is not None and "text" not in columns:
            raise UserError(f"dataset {name}, split {split}: no text column (found {', '.join(columns)}); {_MEND}")
    return splits


def read_split(dataset: Any, name: str, split: str) -> Iterator[str]:
    """Yield the documents of one split of an open dataset."""
    for number, row in enumerate(dataset[split]):
        text = row.get("text")
        if not isinstance(text, str):
            raise UserError(f"dataset {name}, split {split}, row {number}: text is {text!r}; it must be a string")
        yield from clean(text)
