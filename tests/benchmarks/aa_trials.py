"""Do real A/A studies make false claims? python tests/benchmarks/aa_trials.py FOLDER [--part K/P] [--apart]

24 arms, each the standard of `matrix_mixer` at the size of preset `demo`, train all 50 points of one design, every
trial with a seed of its own: 1,200 trainings. Two arms make an A/A study; each is tuned from its first 20 or 50 trials
as the workflow does it (the second takes the first's hyper-parameters unless their trials differ), and both are trained
to the end with ten seeds each that nobody else has: 240 trainings more for a row. Whatever is claimed is false.
All losses are kept in FOLDER; P processes may share the trainings, and the one started without --part, after them,
prints the table. `--apart` tunes every arm by itself.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

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
from evomix.streams import derive, numpy_stream
from evomix.training.inputs import Batches, use_threads
from evomix.training.scoring import measure, subset_rows
from evomix.training.trainer import Trainer
from evomix.tuning import design, sharing, surface
from evomix.tuning.search_space import NAMES, coordinates, dimensions, grid

Array = npt.NDArray[np.float64]
COUNTS = (20, 50)
ARMS, SEEDS, ROWS, SEED = 24, 10, 512, 17
Job = tuple[dict[str, Any], int, int, str]
"""Hyper-parameters, steps, training seed and the shard that is measured."""


def configure() -> Config:
    """Return preset `demo` with fifty trials."""
    merged = yaml.safe_load(Path("config/config.yaml").read_text())
    update_config(merged, yaml.safe_load(Path("config/presets/demo.yaml").read_text()))
    update_config(merged, {"tuning": {"trials": max(COUNTS)}})
    return load_config(merged)


def write_corpus(config: Config, folder: Path) -> None:
    """Write the token shards of the config's corpus."""
    documents.collect(config.corpus, folder / "documents")
    tokenizer.train(folder / "documents/train.jsonl", config.corpus.vocabulary, folder / "tokenizer.json")
    for shard in documents.SHARDS:
        tokens.encode(folder / "tokenizer.json", folder / f"documents/{shard}.jsonl", folder / f"{shard}.bin")
    tokens.summarise(folder, folder / "stats.json")


def train(config: Config, folder: Path, job: Job) -> float:
    """Train in memory; return the loss on fixed rows of a shard, nats per token."""
    point, steps, seed, shard = job
    shape = config.sizes[config.tuning.size]
    architecture = Architecture(
        width=shape.width, layers=shape.layers, heads=shape.heads, vocabulary=config.corpus.vocabulary,
        sequence_length=config.corpus.sequence_length, dropout=config.training.dropout,
    )  # fmt: skip
    optimisation = Optimisation(steps=steps, clip=config.training.clip, **point)
    rows, held_out = (TokenRows(folder, name, architecture.sequence_length) for name in ("train", shard))
    batches = Batches(rows, optimisation.batch_size, seed, torch.device("cpu"))
    model = Transformer(architecture, library.load(library.standard("matrix_mixer")), seed)
    execution = Execution(device="cpu", precision="float32", checkpoint_every=steps)
    trainer = Trainer(model, optimisation, execution, seed)
    for step in range(steps):
        trainer.step(step, batches.read(step))
    return float(measure(model, held_out, subset_rows(len(held_out), min(ROWS, len(held_out))), "float32").mean())


class Losses:
    """Losses of trainings kept in a folder; those of another part are waited for by running again."""

    def __init__(self, config: Config, folder: Path, part: int, parts: int) -> None:
        self.config, self.folder, self.part, self.parts = config, folder, part, parts
        lines = [line for path in sorted(folder.glob("losses_*.jsonl")) for line in path.read_text().splitlines()]
        self.known: dict[str, float] = dict(json.loads(line) for line in lines)

    def of(self, jobs: list[Job]) -> Array:
        """Return the loss of every job, training this part's; NaN for those that another part has not written yet."""
        with (self.folder / f"losses_{self.part}_{self.parts}.jsonl").open("a") as file:
            for place, job in enumerate(jobs):
                if self.key(job) not in self.known and place % self.parts == self.part:
                    self.known[self.key(job)] = train(self.config, self.folder, job)
                    file.write(json.dumps([self.key(job), self.known[self.key(job)]]) + "\n")
                    file.flush()
        return np.array([self.known.get(self.key(job), np.nan) for job in jobs])

    @staticmethod
    def key(job: Job) -> str:
        """Return what names a training in the files."""
        return f"{json.dumps(job[0])} {job[1]} {job[2]} {job[3]}"


def study_row(config: Config, losses: Losses, loss_AT: Array, count: int, apart: bool) -> str:
    """Return a row of the table: what A/A studies claim whose arms are tuned by their first `count` trials."""
    space = dimensions(config.tuning)
    at, candidates = coordinates(space, design.points(config.tuning))[:count], grid(space)
    active = tuple(index for index, dimension in enumerate(space) if dimension.active)
    together, claims, plain, jobs, regrets = 0, 0, 0, [], []
    for first in range(0, ARMS, 2):
        pair = loss_AT[[first, first + 1], :count]
        fits = [surface.fit(at, row, active) for row in pair]
        stream = numpy_stream(config.tuning.seed, "sharing")
        same = not apart and sharing.difference_p(at, pair[1] - pair[0], active, stream) > sharing.LEVEL
        together += same
        own = [fitted.cautious_optimum(candidates) for fitted in fits]
        for arm, (fitted, index) in enumerate(zip(fits, [own[0], own[0] if same else own[1]], strict=True)):
            draws = fitted.draw(candidates, numpy_stream(config.tuning.seed, "surface"), 400)
            regrets.append(surface.expected_regret(draws, index))
            point = {item.name: item.value(float(at)) for item, at in zip(space, candidates[index], strict=True)}
            seeds = copies.final_seeds(f"copy{first + arm}", range(42, 42 + SEEDS)) if first + arm else range(42, 52)
            jobs += [(point, config.training.steps, seed, "test") for seed in seeds]
    final_AS = losses.of(jobs).reshape(ARMS, SEEDS)
    for first in range(0, ARMS, 2):
        difference = final_AS[first] - final_AS[first + 1]
        shared = tuning_noise.variance(regrets[first : first + 2])
        claims += paired_t(difference, 0.05, shared).p < 0.05
        plain += paired_t(difference, 0.05).p < 0.05
    low, high = binomtest(claims, ARMS // 2).proportion_ci(0.95)
    return (
        f"| {count} | {together} | {claims} | {low:.2f}–{high:.2f} | {plain} | {np.mean(regrets):.3f} | "
        f"{final_AS.mean():.3f} | {final_AS.mean(axis=1).std(ddof=1):.3f} | {final_AS.std(axis=1, ddof=1).mean():.3f} |"
    )


def main() -> None:
    """Train what is missing; print the table unless this is a part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part", default="0/1", help="K/P: train share K of P and print no table")
    parser.add_argument("--apart", action="store_true", help="tune every arm by itself")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    config, folder = configure(), options.folder
    use_threads()
    if not (folder / "stats.json").exists():
        write_corpus(config, folder)
    losses = Losses(config, folder, part, parts)
    points = [{name: point[name] for name in NAMES} for point in design.points(config.tuning)]
    jobs = [
        (point, config.tuning.steps, derive(SEED, "pool", f"arm{arm}", number) % 2**31, "search")
        for arm in range(ARMS)
        for number, point in enumerate(points)
    ]
    loss_AT = losses.of(jobs).reshape(ARMS, len(points))
    if np.isnan(loss_AT).any():
        raise SystemExit("the other parts have not finished the trials; run this again after them")
    rows = [study_row(config, losses, loss_AT, count, options.apart) for count in COUNTS]
    if parts == 1:
        print("| trials | tuned together of 12 | false of 12 | 95 % | tuning ignored | regret stated | final loss | "
              "SD of arms | SD of seeds |")  # fmt: skip
        print("|---|---|---|---|---|---|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    main()
