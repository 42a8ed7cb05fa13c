"""Noise of the curve's subset against the spread of seeds: python tests/benchmarks/seed_spread.py TEXT [--steps N ...].

Trains the standard on your text (JSONL) with several seeds. SD: over seeds, of the loss on the whole held-out shard.
Row: SD over rows of a seed's loss less the row's mean over seeds and the seed's mean over rows, which is what a subset
of rows adds to a seed's loss relative to the others. The last columns put a subset of 8,192 rows beside a fifth of SD.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from paired import machine
from safetensors.torch import load_file

from evomix.artifacts import digest_file
from evomix.corpus import documents, tokenizer, tokens
from evomix.mechanisms import library
from evomix.model.transformer import Transformer
from evomix.settings import Corpus
from evomix.specs import RunSpec
from evomix.training.engine import train
from evomix.training.scoring import measure

VOCABULARY, TOKENS, SUBSET = 1024, 128, 8192


def prepare(text: Path, folder: Path) -> Path:
    """Make the corpus of a text; return its stats.json."""
    corpus = Corpus(source=str(text), held_out=0.4, vocabulary=VOCABULARY, sequence_length=TOKENS)
    documents.collect(corpus, folder)
    tokenizer.train(folder / "train.jsonl", VOCABULARY, folder / "tokenizer.json")
    for shard in ("train", "search", "selection", "test"):
        tokens.encode(folder / "tokenizer.json", folder / f"{shard}.jsonl", folder / f"{shard}.bin")
    tokens.summarise(folder, folder / "stats.json")
    return folder / "stats.json"


def spec(stats: Path, steps: int, seed: int, width: int) -> RunSpec:
    """Return one run."""
    path = library.standard("matrix_mixer")
    return RunSpec.model_validate(
        {
            "framework": "matrix_mixer",
            "variant": "standard",
            "size": "small",
            "seed": seed,
            "mechanism": {"path": str(path), "digest": digest_file(path)},
            "corpus": {"folder": str(stats.parent), "digest": digest_file(stats)},
            "architecture": {
                **{"width": width, "layers": 2, "heads": 2, "vocabulary": VOCABULARY},
                **{"sequence_length": TOKENS, "dropout": 0.1},
            },
            "optimisation": {
                **{"steps": steps, "batch_size": 16, "learning_rate": 3e-3},
                **{"warmup_steps": steps // 20, "weight_decay": 0.01, "clip": 1.0},
            },
            "measurement": {"shard": "search", "every": steps, "rows": 64},
            "execution": {"device": "cpu", "precision": "float32", "checkpoint_every": steps},
            "sandbox": {},
        }
    )


def row_losses(run: RunSpec, folder: Path) -> np.ndarray:
    """Train a run; return its loss on every row of the held-out shard."""
    train(run, folder)
    model = Transformer(run.architecture, library.load(Path(run.mechanism.path)), run.seed)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    rows = tokens.TokenRows(Path(run.corpus.folder), "search", TOKENS)
    return measure(model, rows, np.arange(len(rows)), "float32").numpy()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--steps", type=int, nargs="+", default=[150, 600])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--width", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["EVOMIX_THREADS"] = "1"
    print(f"{machine()}; width {arguments.width}, {arguments.seeds} seeds\n")
    print("| steps | rows | loss | SD over seeds | row | 8,192 rows | a fifth of SD |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        stats = prepare(arguments.text, Path(place) / "corpus")
        for steps in arguments.steps:
            losses = np.stack(
                [
                    row_losses(spec(stats, steps, seed, arguments.width), Path(place) / f"{steps}_{seed}")
                    for seed in range(arguments.seeds)
                ]
            )
            spread = losses.mean(1).std(ddof=1)
            apart = losses - losses.mean(0) - losses.mean(1, keepdims=True) + losses.mean()
            row = np.sqrt((apart**2).sum() / (losses.shape[0] - 1) / (losses.shape[1] - 1))
            print(
                f"| {steps} | {losses.shape[1]} | {losses.mean():.3f} | {spread:.4f} | {row:.4f} "
                f"| {row / SUBSET**0.5:.5f} | {spread / 5:.5f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
