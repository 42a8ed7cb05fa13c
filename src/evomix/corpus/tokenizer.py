"""Byte-level BPE: any text can be encoded, decoding gives the same text back, and training is deterministic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from evomix.artifacts import write_text
from evomix.corpus.sources import END_OF_TEXT
from evomix.errors import UserError


def read_documents(path: Path) -> Iterator[str]:
    """Yield the documents of a JSONL file that `documents.collect` wrote; UserError when it is missing or damaged."""
    number = 0
    try:
        with Path(path).open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):  # noqa: B007 (the sentence below names the line)
                yield json.loads(line)["text"]
    except FileNotFoundError:
        raise UserError(f"missing file {path}; run the rule that collects the documents") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged near line {number}; delete it and collect the documents again") from None


def train(documents: Path, vocabulary: int, output: Path) -> None:
    """Train a byte-level BPE of exactly `vocabulary` tokens (end-of-text, 256 bytes, merges) on a JSONL file.

    Raises UserError when the text supports fewer merges than asked for, with the number that it supports.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(read_documents(documents), trainer)
    supported = tokenizer.get_vocab_size()
    if supported != vocabulary:
        raise UserError(
            f"corpus.vocabulary is {vocabulary}, but the training text supports only {supported} tokens; "
            f"set it to {supported} or less, or give more text"
        )
    write_text(output, tokenizer.to_str(pretty=True) + "\n")


def load(path: Path) -> Tokenizer:
    """Load a trained tokenizer; UserError when the file is missing or damaged."""
    try:
        return Tokenizer.from_str(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"missing tokenizer {path}; run the rule that trains it") from None
    except Exception as error:  # tokenizers raises plain Exception
        raise UserError(f"{path} is not a readable tokenizer ({error}); delete it and run the workflow again") from None


def end_of_text(tokenizer: Tokenizer) -> int:
    """Return the id of the end-of-text token."""
    identifier = tokenizer.token_to_id(END_OF_TEXT)
    if identifier is None:
        raise UserError(f"the tokenizer has no token {END_OF_TEXT}; train it with this workflow")
    return int(identifier)
