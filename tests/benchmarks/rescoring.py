"""What the trusted re-scoring costs beside a training of the protocol: python tests/benchmarks/rescoring.py.

Both at the validation size of preset paper, on one CPU thread, in CPU seconds of this process and its children. Rows
of the test shard are estimated from a file of stories: `--stories FILE` (JSONL with `text`), tokenised with a BPE
trained on that file.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from paired import cpu_seconds, machine
from safetensors.torch import save_file

from evomix.corpus import tokenizer
from evomix.gate.rescore import rescore
from evomix.mechanisms import library
from evomix.model.transformer import Transformer
from evomix.specs import Execution, Optimisation
from evomix.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from training_study import architecture, make_spec, write_corpus

STEPS, BATCH, VOCABULARY = 100_000, 64, 16_384
SMALLER_VOCABULARY = 8_000
"""Of the tokenizer that a thousand stories support; it makes more tokens of a story than the protocol's would."""
VALIDATION_STORIES = 21_990 / 3
"""Stories of the test shard: a third of TinyStories' validation split."""
SHELL = {"width": 128, "layers": 6, "heads": 4, "vocabulary": VOCABULARY, "sequence_length": 128}
FRAMEWORK = "matrix_mixer"


def consumed(task: Callable[[], object]) -> float:
    """Return the CPU seconds of a call, those of its child processes included."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    before = [resource.getrusage(kind) for kind in kinds]
    task()
    after = [resource.getrusage(kind) for kind in kinds]
    return sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after, strict=True))


def rescoring(rows: int) -> float:
    """Return the CPU seconds of re-scoring a shard of so many rows, audit and both sandboxes included."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = {"train": 400, "search": 400, "selection": 400, "test": rows * 128 + 1}
        stats = write_corpus(folder / "corpus", VOCABULARY, shards)
        mechanism = library.standard(FRAMEWORK)
        spec = make_spec(stats, mechanism, framework=FRAMEWORK, **SHELL)
        model = Transformer(spec.architecture, library.load(mechanism, FRAMEWORK), spec.seed)
        save_file(model.state_dict(), folder / "model.safetensors")
        return consumed(lambda: rescore(spec, folder / "model.safetensors", "test"))


def step(repeats: int) -> float:
    """Return the CPU seconds of one training step, the least of some."""
    shell = architecture(**SHELL)
    model = Transformer(shell, library.load(library.standard(FRAMEWORK), FRAMEWORK), 1)
    optimisation = Optimisation(
        steps=STEPS, batch_size=BATCH, learning_rate=1e-3, warmup_steps=1_000, weight_decay=0.01, clip=1.0
    )
    execution = Execution.model_validate({"device": "cpu", "precision": "float32", "checkpoint_every": 1_000})
    trainer = Trainer(model, optimisation, execution, seed=1)
    batch = torch.randint(VOCABULARY, (BATCH, 129))
    return min(cpu_seconds(lambda number=number: trainer.step(number, batch)) for number in range(repeats + 1))


def tokens_per_story(stories: Path) -> float:
    """Return the mean number of tokens of a story, its end included."""
    texts = [json.loads(line)["text"] for line in stories.read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as name:
        tokenizer.train(stories, SMALLER_VOCABULARY, Path(name) / "tokenizer.json")
        codec = tokenizer.load(Path(name) / "tokenizer.json")
        return sum(len(codec.encode(text).ids) + 1 for text in texts) / len(texts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    length = tokens_per_story(arguments.stories) if arguments.stories else 210.0
    rows = VALIDATION_STORIES * length / 128
    few, many = rescoring(128), rescoring(512)
    slope = (many - few) / (512 - 128)
    whole = few + slope * (rows - 128)
    one = step(3)
    print(machine())
    print(f"tokens per story {length:.0f}, rows of the test shard {rows:,.0f}")
    print(f"re-scoring: 128 rows {few:.1f}, 512 rows {many:.1f}, per row {slope:.4f}, whole shard {whole:,.0f} CPU s")
    print(f"training: step {one:.2f}, {STEPS:,} steps {one * STEPS:,.0f} CPU s")
    print(f"share {whole / (one * STEPS):.4%}")
