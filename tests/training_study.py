"""A corpus of synthetic tokens and run specs for the tests of model and training: seconds, no tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from evomix.artifacts import digest_file, write_json
from evomix.corpus import tokens
from evomix.mechanisms import library
from evomix.specs import Architecture, Execution, RunSpec

VOCABULARY = 61
EXECUTION = Execution(device="cpu", precision="float32", checkpoint_every=15)
SHARDS = {"train": 6_000, "search": 1_500, "selection": 900, "test": 1_500}


def write_corpus(folder: Path, vocabulary: int = VOCABULARY, shards: dict[str, int] | None = None) -> Path:
    """Write token shards of a noisy cyclic language (tokens mostly follow t → 3t + 1) and stats.json; return stats."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.Generator(np.random.Philox(key=5))
    for name, count in (shards or SHARDS).items():
        stream = np.zeros(count, dtype=np.dtype("<u2"))
        noise = generator.random(count) < 0.2
        draws = generator.integers(0, vocabulary, count)
        for index in range(1, count):
            stream[index] = draws[index] if noise[index] else (3 * int(stream[index - 1]) + 1) % vocabulary
        path = folder / f"{name}.bin"
        path.write_bytes(stream.tobytes())
        manifest = {"documents": 1, "tokens": count, "bytes": 3 * count, "sha256": digest_file(path), "eot": 0}
        write_json(path.with_suffix(".json"), "shard", {**manifest, "vocabulary": vocabulary})
    tokens.summarise(folder, folder / "stats.json")
    return folder / "stats.json"


def architecture(**changes: Any) -> Architecture:
    """Return a tiny shell."""
    shape = {"width": 16, "layers": 2, "heads": 2, "vocabulary": VOCABULARY, "sequence_length": 16, "dropout": 0.1}
    return Architecture.model_validate({**shape, **changes})


def make_spec(stats: Path, mechanism: Path | None = None, **changes: Any) -> RunSpec:
    """Return a tiny run on the corpus of `stats`; `changes` replace top-level sections' keys or scalars by name."""
    path = mechanism or library.standard("coefficient_dynamics")
    sections: dict[str, Any] = {
        "framework": "coefficient_dynamics",
        "variant": "standard",
        "size": "tiny",
        "seed": 3,
        "mechanism": {"path": str(path), "digest": digest_file(path)},
        "corpus": {"folder": str(stats.parent), "digest": digest_file(stats)},
        "architecture": architecture().model_dump(),
        "optimisation": {
            "steps": 40,
            "batch_size": 4,
            "learning_rate": 3e-3,
            "warmup_steps": 5,
            "weight_decay": 0.1,
            "clip": 1.0,
        },
        "measurement": {"shard": "search", "every": 10, "rows": 20},
        "execution": {"device": "cpu", "precision": "float32", "checkpoint_every": 15},
        "sandbox": {},
    }
    for key, value in changes.items():
        owner = next((part for part in sections.values() if isinstance(part, dict) and key in part), None)
        if isinstance(owner, dict):
            owner[key] = value
        else:
            sections[key] = value
    return RunSpec.model_validate(sections)


def write_mechanism(path: Path, line: str, setup: str = "pass") -> Path:
    """Write the standard matrix mixer with `setup` at the end of its construction, `line` before its forward pass."""
    source = library.standard("matrix_mixer").read_text(encoding="utf-8")
    addition = f"""
    def __init__(self, width, heads):
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        {setup}

    def forward(self, x_BTD, v_BHTP):
        {line}
        return super().forward(x_BTD, v_BHTP)


# EVOLVE-BLOCK-END"""
    path.write_text(source.replace("\n\n# EVOLVE-BLOCK-END", addition), encoding="utf-8")
    return path
