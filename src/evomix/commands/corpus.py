"""Commands that turn text into packed tokens."""

from __future__ import annotations

from pathlib import Path

from evomix import settings, specs
from evomix.commands.options import Target


def collect_documents(section: Path, manifest: Path) -> None:
    """Read the source, drop duplicates and split the documents into shards beside MANIFEST."""
    from evomix.corpus import documents

    documents.collect(specs.load_section(section, settings.Corpus), manifest.parent)


def train_tokenizer(section: Path, documents: Path, output: Target) -> None:
    """Train the byte-level BPE vocabulary."""
    from evomix.corpus import tokenizer

    tokenizer.train(documents, specs.load_section(section, settings.Corpus).vocabulary, output)


def encode_shard(tokenizer: Path, documents: Path, output: Target) -> None:
    """Encode one shard as packed uint16 tokens, with a manifest beside them."""
    from evomix.corpus import tokens

    tokens.encode(tokenizer, documents, output)


def summarise_corpus(output: Target) -> None:
    """Count documents, tokens and bytes of all shards in OUTPUT's folder."""
    from evomix.corpus import tokens

    tokens.summarise(output.parent, output)
