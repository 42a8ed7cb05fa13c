"""The benchmark table of the engine against the plain loop: python tests/benchmarks/speed.py [--pairs N] [NAME ...].

Rows: whole steps at two sizes in fp32 and bf16, head and loss alone, peak memory, data path, small model. Each is a
ratio plain / engine with both medians; the plain loop trains the same mathematics in the predecessor's manner.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from paired import machine, peak_bytes, ratio
from plain_loop import PlainTransformer, train
from torch.nn import functional as F

from evomix.corpus import documents, tokenizer, tokens
from evomix.corpus.batches import batch_indices
from evomix.mechanisms import library
from evomix.model.transformer import Transformer
from evomix.settings import Corpus
from evomix.specs import Architecture, Execution, Optimisation
from evomix.training.head import head_loss
from evomix.training.trainer import Trainer

OPTIMISATION = Optimisation(steps=1000, batch_size=64, learning_rate=1e-3, warmup_steps=10, weight_decay=0.01, clip=1.0)


def shape(width: int, layers: int, heads: int, vocabulary: int = 16_384, tokens: int = 128) -> Architecture:
    """Return a shell with dropout 0.1."""
    return Architecture(
        width=width, layers=layers, heads=heads, vocabulary=vocabulary, sequence_length=tokens, dropout=0.1
    )


def steps(
    architecture: Architecture, batch: int, precision: str, count: int, framework: str = "matrix_mixer"
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return `count` plain steps and `count` engine steps on equal models and batches."""
    model = Transformer(architecture, library.load(library.standard(framework)), seed=1)
    plain = PlainTransformer(architecture)
    plain.load_state_dict(Transformer(architecture, library.load(library.standard("matrix_mixer")), 1).state_dict())
    execution = Execution.model_validate({"device": "cpu", "precision": precision, "checkpoint_every": 1})
    trainer = Trainer(model, OPTIMISATION, execution, seed=1)
    generator = torch.Generator().manual_seed(1)
    size = (batch, architecture.sequence_length + 1)
    batches = [torch.randint(architecture.vocabulary, size, generator=generator) for _ in range(count)]

    def engine() -> None:
        for step, rows in enumerate(batches):
            trainer.step(step, rows)

    return partial(train, plain, OPTIMISATION, batches, partial(F.dropout, p=0.1)), engine


def heads(architecture: Architecture, batch: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return head and loss alone, forward and backward: logits of all T+1 positions sliced, against chunks."""
    generator = torch.Generator().manual_seed(1)
    length = architecture.sequence_length
    hidden = torch.randn(batch, length + 1, architecture.width, generator=generator).requires_grad_()
    weight = (0.02 * torch.randn(architecture.vocabulary, architecture.width, generator=generator)).requires_grad_()
    targets = torch.randint(architecture.vocabulary, (batch, length), generator=generator)

    def plain() -> None:
        logits = (hidden @ weight.T)[:, :-1].contiguous()
        F.cross_entropy(logits.view(-1, architecture.vocabulary), targets.reshape(-1)).backward()

    def engine() -> None:
        head_loss(hidden[:, :-1], weight, targets).backward()

    return plain, engine


def data(folder: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return 20 batches of 64 × 128 tokens, tokenised and padded as they are needed, against packed rows."""
    corpus = Corpus(source="grammar", stories=2_000, vocabulary=512, sequence_length=128)
    documents.collect(corpus, folder)
    tokenizer.train(folder / "train.jsonl", 512, folder / "tokenizer.json")
    tokens.encode(folder / "tokenizer.json", folder / "train.jsonl", folder / "train.bin")
    codec = tokenizer.load(folder / "tokenizer.json")
    texts = list(tokenizer.read_documents(folder / "train.jsonl"))
    rows = tokens.TokenRows(folder, "train", 128)

    def plain() -> None:
        order = np.random.Generator(np.random.Philox(1)).permutation(len(texts))
        for step in range(20):
            chosen = [texts[index] for index in order[64 * step : 64 * step + 64]]
            padded = [(codec.encode(text).ids + [0] * 129)[:129] for text in chosen]
            torch.tensor(padded)

    def engine() -> None:
        for step in range(20):
            torch.from_numpy(rows.read(batch_indices(len(rows), 64, 1, step)))

    return plain, engine


def table(names: list[str], pairs: int) -> Iterator[str]:
    """Yield the rows of the table, measured one after another."""
    small, middle, large = shape(32, 2, 2, 512, 64), shape(96, 4, 4), shape(192, 6, 8)
    for name, architecture in (("memory d96 L4", middle), ("memory d192 L6", large)):
        if not names or name in names:
            plain = peak_bytes(lambda shape=architecture: steps(shape, 64, "float32", 1)[0]())
            ours = peak_bytes(lambda shape=architecture: steps(shape, 64, "float32", 1)[1]())
            yield f"| {name} | {plain / ours:.2f} | {plain / 2**20:.0f} MB | {ours / 2**20:.0f} MB |"
    with tempfile.TemporaryDirectory() as folder:
        cases = {
            "step d32 L2 B16 T64 V512 fp32": partial(steps, small, 16, "float32", 20),
            "step d96 L4 fp32": partial(steps, middle, 64, "float32", 1),
            "step d96 L4 bf16": partial(steps, middle, 64, "bfloat16", 1),
            "step d192 L6 fp32": partial(steps, large, 64, "float32", 1),
            "step d192 L6 bf16": partial(steps, large, 64, "bfloat16", 1),
            "step d96 L4 fp32, coefficient dynamics": partial(steps, middle, 64, "float32", 1, "coefficient_dynamics"),
            "head and loss d96": partial(heads, middle, 64),
            "head and loss d192": partial(heads, large, 64),
            "data path": partial(data, Path(folder)),
        }
        for name, case in cases.items():
            if not names or name in names:
                value, plain, ours = ratio(*case(), pairs=pairs)
                yield f"| {name} | {value:.2f} | {1e3 * plain:.1f} ms | {1e3 * ours:.1f} ms |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}; medians of {arguments.pairs} interleaved pairs\n")
    print("| case | plain / engine | plain | engine |\n|---|---|---|---|")
    for row in table(arguments.names, arguments.pairs):
        print(row, flush=True)


if __name__ == "__main__":
    main()
