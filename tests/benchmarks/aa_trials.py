"""How many trials make a claim safe? From real trials: python tests/benchmarks/aa_trials.py FOLDER [--part K/P].

Real: 24 arms, each the standard (2k, 60 steps, 32-token rows) with a trial seed of its own, train all 50 points of one
design: 1,200 trainings, four CPU-minutes, kept in FOLDER. Each arm is then tuned by the workflow's own surface from
its first 8, 20, 30 and 50 trials (the four rows of the table share trials).
Resampled: the truth is a surface through the 50 means over all arms, and an A/A study of two arms has ten paired seeds
whose differences are the truth's at the two choices plus those of ten real seeds at the nearest points of the design.
P processes may share the trainings; the one started without --part, after them, prints the table.
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch
import yaml
from scipy.stats import binomtest
from snakemake.utils import update_config

from evomix import copies
from evomix.config import Config, load_config
from evomix.corpus import documents, tokenizer, tokens
from evomix.corpus.tokens import TokenRows
from evomix.mechanisms import library
from evomix.model.transformer import Transformer
from evomix.specs import Architecture, Execution, Optimisation
from evomix.statistics import tuning_noise
from evomix.statistics.paired import paired_t
from evomix.streams import numpy_stream
from evomix.training.inputs import Batches, use_threads
from evomix.training.scoring import measure, subset_rows
from evomix.training.trainer import Trainer
from evomix.tuning import design, surface
from evomix.tuning.search_space import NAMES, coordinates, dimensions, grid

Array = npt.NDArray[np.float64]
COUNTS = (8, 20, 30, 50)
ARMS, SEEDS, ROWS = 24, 10, 512
CHANGES: dict[str, Any] = {
    "corpus": {"stories": 3000},
    "tuning": {"trials": 50, "steps": 60, "learning_rate": [0.003, 0.1], "warmup_steps": [5, 40],
               "batch_sizes": [8, 16]},
}  # fmt: skip
NEAR = np.array([3.0, 1.0, 1.0, 100.0])
"""Weights of the coordinates when the nearest point of the design is sought: never one of another batch size."""


def configure() -> Config:
    """Return preset `test` with fifty trials over a wider space."""
    merged = yaml.safe_load(Path("config/config.yaml").read_text())
    update_config(merged, yaml.safe_load(Path("config/presets/test.yaml").read_text()))
    update_config(merged, CHANGES)
    return load_config(merged)


def write_corpus(config: Config, folder: Path) -> None:
    """Write the token shards of the config's corpus."""
    documents.collect(config.corpus, folder / "documents")
    tokenizer.train(folder / "documents/train.jsonl", config.corpus.vocabulary, folder / "tokenizer.json")
    for shard in documents.SHARDS:
        tokens.encode(folder / "tokenizer.json", folder / f"documents/{shard}.jsonl", folder / f"{shard}.bin")
    tokens.summarise(folder, folder / "stats.json")


def train(config: Config, folder: Path, point: dict[str, Any], seed: int) -> float:
    """Train one trial in memory; return its loss on fixed rows of the search shard, nats per token."""
    shape, tuning = config.sizes[config.tuning.size], config.tuning
    architecture = Architecture(
        width=shape.width, layers=shape.layers, heads=shape.heads, vocabulary=config.corpus.vocabulary,
        sequence_length=config.corpus.sequence_length, dropout=config.training.dropout,
    )  # fmt: skip
    optimisation = Optimisation(steps=tuning.steps, clip=config.training.clip, **point)
    rows, held_out = (TokenRows(folder, shard, architecture.sequence_length) for shard in ("train", "search"))
    batches = Batches(rows, optimisation.batch_size, seed, torch.device("cpu"))
    model = Transformer(architecture, library.load(library.standard("matrix_mixer")), seed)
    execution = Execution(device="cpu", precision="float32", checkpoint_every=tuning.steps)
    trainer = Trainer(model, optimisation, execution, seed)
    for step in range(tuning.steps):
        trainer.step(step, batches.read(step))
    return float(measure(model, held_out, subset_rows(len(held_out), ROWS), "float32").mean())


def table(config: Config, loss_AT: Array) -> None:
    """Print what tunings by the first trials of every arm would claim; `loss_AT` holds arms × trials."""
    space = dimensions(config.tuning)
    at, candidates = coordinates(space, design.points(config.tuning)), grid(space)
    active = tuple(index for index, dimension in enumerate(space) if dimension.active)
    mean, rng = loss_AT.mean(axis=0), np.random.default_rng(0)
    truth = surface.fit(at, mean, active).predict(candidates)[0]
    truth -= truth.min()
    print("| trials | false of 12 | 95 % | of all pairs | tuning ignored | regret stated | met | its SD | share |")
    print("|---|---|---|---|---|---|---|---|---|")
    for count in COUNTS:
        chosen, regrets = [], []
        for losses in loss_AT:
            fitted = surface.fit(at[:count], losses[:count], active)
            chosen.append(fitted.cautious_optimum(candidates))
            draws = fitted.draw(candidates, numpy_stream(config.tuning.seed, "surface"), 400)
            regrets.append(float((draws[chosen[-1]] - draws.min(axis=0)).mean()))
        met = truth[chosen]
        order = ((NEAR * (at[None] - candidates[chosen][:, None])) ** 2).sum(axis=2).argsort(axis=1)
        claims = {}
        for a, b in combinations(range(len(met)), 2):
            first, second = order[a, 0], order[b, int(order[b, 0] == order[a, 0])]
            seeds = rng.permutation(len(loss_AT))[:SEEDS]
            noise = loss_AT[seeds, first] - mean[first] - loss_AT[seeds, second] + mean[second]
            widened = tuning_noise.variance([regrets[a], regrets[b]])
            difference = met[a] - met[b] + noise
            claims[a, b] = paired_t(difference, 0.05, widened).p < 0.05, paired_t(difference, 0.05).p < 0.05
        disjoint = sum(int(claims[arm, arm + 1][0]) for arm in range(0, len(met), 2))
        low, high = binomtest(disjoint, len(met) // 2).proportion_ci(0.95)
        every, plain = np.mean(list(claims.values()), axis=0)
        share = met.var(ddof=1) / np.mean(np.square(regrets))
        print(
            f"| {count} | {disjoint} | {low:.2f}–{high:.2f} | {every:.3f} | {plain:.3f} | {np.mean(regrets):.4f} | "
            f"{met.mean():.4f} | {met.std(ddof=1):.4f} | {share:.2f} |"
        )


def main() -> None:
    """Train what is missing; print the table unless this is a part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part", default="0/1", help="K/P: train share K of P and print no table")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    config, folder = configure(), options.folder
    use_threads()
    if not (folder / "stats.json").exists():
        write_corpus(config, folder)

    def known() -> dict[str, float]:
        lines = [line for path in sorted(folder.glob("losses_*.jsonl")) for line in path.read_text().splitlines()]
        return dict(json.loads(line) for line in lines)

    seeds = [copies.trial_seed(config.tuning.seed, f"copy{arm + 1}") for arm in range(ARMS)]
    points = [{name: point[name] for name in NAMES} for point in design.points(config.tuning)]
    keys = [[f"{json.dumps(point)} {config.tuning.steps} {seed} search" for point in points] for seed in seeds]
    losses = known()
    with (folder / f"losses_{part}.jsonl").open("a") as file:
        for seed, row in zip(seeds, keys, strict=True):
            for point, key in zip(points, row, strict=True):
                if key not in losses and crc32(key.encode()) % parts == part:
                    file.write(json.dumps([key, train(config, folder, point, seed)]) + "\n")
                    file.flush()
    if parts == 1:
        losses = known()
        table(config, np.array([[losses[key] for key in row] for row in keys]))


if __name__ == "__main__":
    main()
