"""Specs: the JSON that fully determines a run or a search. A person can write one by hand and run it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError

from evomix.artifacts import digest_text, read_json, write_json
from evomix.config import Framework, Sandbox, Seeds, Settings
from evomix.errors import UserError

Shard = Literal["train", "search", "selection", "test"]


class CorpusReference(Settings):
    """The token shards a run reads."""

    folder: str = Field(description="folder with {train,search,selection,test}.bin and their manifests")
    digest: str = Field(description="SHA-256 of stats.json, checked before the first step")


class MechanismReference(Settings):
    """The frozen mechanism file a run trains."""

    path: str = Field(description="Python file")
    digest: str = Field(description="SHA-256 of the file, checked before the first step")


class Architecture(Settings):
    """Shape of the fixed shell."""

    width: int
    layers: int
    heads: int
    vocabulary: int
    sequence_length: int
    dropout: float


class Optimisation(Settings):
    """AdamW, linear warm-up, cosine decay, clipping."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    clip: float


class Measurement(Settings):
    """Where and how often the held-out loss is measured."""

    shard: Shard = Field(description="held-out shard; the claim uses `test`, a search never does")
    every: int = Field(description="steps between points of the curve")
    rows: int = Field(description="rows of the curve's fixed subset (the final loss uses the whole shard)")


class Execution(Settings):
    """How a run is carried out."""

    device: Literal["cpu", "cuda"]
    precision: Literal["float32", "bfloat16"]
    checkpoint_every: int


class RunSpec(Settings):
    """One training: (framework, variant, size, seed) and everything that decides its numbers."""

    framework: Framework
    variant: str
    size: str
    seed: int
    mechanism: MechanismReference
    corpus: CorpusReference
    architecture: Architecture
    optimisation: Optimisation
    measurement: Measurement
    execution: Execution
    sandbox: Sandbox


class SearchSpec(Settings):
    """How the candidates of one framework's search are judged.

    A search writes three: for candidates (few seeds, shard `search`), for the baseline (more seeds, shard `search`), and
    for finalists (fresh seeds, shard `selection`).
    """

    framework: Framework
    corpus: CorpusReference
    architectures: dict[str, Architecture] = Field(description="size name: shell; the sizes of the slope")
    optimisation: Optimisation
    measurement: Measurement
    execution: Execution
    seeds: Seeds
    fitness: Literal["slope", "gain"]
    margin: float
    parameter_budget: float
    flop_budget: float
    sandbox: Sandbox


SpecType = TypeVar("SpecType", RunSpec, SearchSpec)
_SCHEMAS = {RunSpec: "run_spec", SearchSpec: "search_spec"}


def write_spec(path: Path, spec: RunSpec | SearchSpec) -> None:
    """Write a spec as canonical JSON."""
    write_json(path, _SCHEMAS[type(spec)], spec.model_dump(mode="json"))


def read_spec(path: Path, kind: type[SpecType]) -> SpecType:
    """Read a spec of the given kind; UserError naming the first fault when it is not one."""
    content = read_json(path, _SCHEMAS[kind])
    content.pop("schema")
    content.pop("schema_version")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: `{where}`: {first['msg'].lower()}; delete it and run the workflow again") from None


def spec_digest(spec: RunSpec | SearchSpec) -> str:
    """Return the identity of a spec: SHA-256 of its JSON."""
    return digest_text(spec.model_dump_json())
