"""Specs: the JSON that fully determines a run or a search. A person can write one by hand and run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from evomix.artifacts import digest_file, digest_text, parse_json, read_json, read_text, write_json
from evomix.copies import trial_seed
from evomix.errors import UserError
from evomix.settings import (
    Arm,
    Framework,
    Judgement,
    Sandbox,
    Seeds,
    Settings,
    Size,
    Training,
    Tuning,
    TuningBudget,
    Validation,
)

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
    deterministic: bool = True


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

    A search writes three: for candidates (few seeds, shard `search`), for the baseline (more seeds, shard `search`),
    and for finalists (fresh seeds, shard `selection`).
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
SettingsType = TypeVar("SettingsType", bound=Settings)
_SCHEMAS = {RunSpec: "run_spec", SearchSpec: "search_spec"}


def write_spec(path: Path, spec: RunSpec | SearchSpec) -> None:
    """Write a spec as canonical JSON."""
    write_json(path, _SCHEMAS[type(spec)], spec.model_dump(mode="json"))


def read_spec(path: Path, kind: type[SpecType]) -> SpecType:
    """Read a spec of the given kind; UserError naming the first fault when it is not one."""
    content = read_json(path, _SCHEMAS[kind])
    return _validated(kind, path, {key: content[key] for key in content if key not in ("schema", "schema_version")})


def _validated(kind: type[SettingsType], path: Path, content: Any) -> SettingsType:
    """Return a model of what a file holds; UserError naming the file and its first fault."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{path}: `{where}`: {first['msg'].lower()}; another version of evomix wrote it, delete it and run again"
        ) from None


def spec_digest(spec: RunSpec | SearchSpec) -> str:
    """Return the identity of a spec: SHA-256 of its JSON."""
    return digest_text(spec.model_dump_json())


def _optimisation(training: Training, best: Path) -> Optimisation:
    """Merge the fixed part of the optimiser's settings with the tuned part (`chosen` of best.json)."""
    chosen = read_json(best, "tuning")["chosen"]
    return _validated(Optimisation, best, {"steps": training.steps, "clip": training.clip, **chosen})


class TrainingSection(Settings):
    """What the config says about every training: the file config/training.json."""

    training: Training
    sandbox: Sandbox
    sequence_length: int
    vocabulary: int

    def architecture(self, size: Size) -> Architecture:
        """Return the fixed shell at a size."""
        return Architecture(
            width=size.width,
            layers=size.layers,
            heads=size.heads,
            vocabulary=self.vocabulary,
            sequence_length=self.sequence_length,
            dropout=self.training.dropout,
        )

    def measurement(self, shard: Shard) -> Measurement:
        """Return how the held-out loss is measured on a shard."""
        return Measurement(shard=shard, every=self.training.evaluate_every, rows=self.training.evaluation_rows)

    def execution(self) -> Execution:
        """Return how runs are carried out."""
        training = self.training
        return Execution(
            device=training.device,
            precision=training.precision,
            checkpoint_every=training.checkpoint_every,
            deterministic=training.deterministic,
        )


class SearchRole(Settings):
    """Which seeds and which held-out shard judge: the files config/search-{candidates,baseline,finalists}.json."""

    seeds: Seeds
    shard: Shard


class FinalistsSection(Settings):
    """How many candidates are re-ranked: the file config/finalists.json."""

    finalists: int


class PolicySection(Settings):
    """How results are labelled, and what every tuning may spend: the file config/policy.json."""

    policy: Literal["joint", "shared"]
    preset: str
    budget: TuningBudget

    def labels(self) -> dict[str, Any]:
        """Return what `provenance` is told about a result that rests on tuned hyper-parameters."""
        return {"preset": self.preset, "tuning_policy": self.policy, "tuning_budget": self.budget}


class ValidationSection(PolicySection):
    """What the analysis of the study reads: the file config/validation.json."""

    validation: Validation
    frameworks: list[Framework]
    arm: Arm

    def tuning(self, results: Path, framework: str, variant: str) -> Path:
        """Return the best.json by which a variant was tuned, under a results folder."""
        tuned = "standard" if self.policy == "shared" else variant
        return results / f"tuning/{framework}/{tuned}/best.json"


class CalibrationSection(Settings):
    """How large the calibration is: the file config/calibration.json."""

    studies: int


def load_section(path: Path, kind: type[SettingsType]) -> SettingsType:
    """Read a section file that the workflow wrote from the validated config."""
    return _validated(kind, path, parse_json(path, read_text(path)))


def corpus_reference(stats: Path) -> CorpusReference:
    """Return the reference to the token shards beside stats.json."""
    return CorpusReference(folder=str(Path(stats).parent), digest=digest_file(stats))


def make_run_spec(
    *,
    framework: Framework,
    variant: str,
    size: str,
    seed: int,
    mechanism: Path,
    stats: Path,
    training: Path,
    size_section: Path,
    best: Path,
    shard: Shard = "test",
    steps: int | None = None,
) -> RunSpec:
    """Build the spec of one run from the section files, the tuned hyper-parameters and the frozen mechanism.

    `steps` stands in for the config's full training.
    """
    section = load_section(training, TrainingSection)
    optimisation = _optimisation(section.training, best)
    return RunSpec(
        framework=framework,
        variant=variant,
        size=size,
        seed=seed,
        mechanism=MechanismReference(path=str(mechanism), digest=digest_file(mechanism)),
        corpus=corpus_reference(stats),
        architecture=section.architecture(load_section(size_section, Size)),
        optimisation=optimisation.model_copy(update={"steps": steps} if steps else {}),
        measurement=section.measurement(shard),
        execution=section.execution(),
        sandbox=section.sandbox,
    )


def make_trial_spec(
    *,
    framework: Framework,
    variant: str,
    mechanism: Path,
    stats: Path,
    training: Path,
    size_section: Path,
    tuning: Path,
) -> RunSpec:
    """Build the spec that all trials of a variant share; each trial puts its own hyper-parameters in place.

    Trials are measured on the search shard: the shards of the selection and of the claim stay unseen.
    """
    section, rules = load_section(training, TrainingSection), load_section(tuning, Tuning)
    optimisation = Optimisation(
        steps=rules.steps,
        batch_size=rules.batch_sizes[0],
        learning_rate=rules.learning_rate[0],
        warmup_steps=rules.warmup_steps[0],
        weight_decay=rules.weight_decay[0],
        clip=section.training.clip,
    )
    return RunSpec(
        framework=framework,
        variant=variant,
        size=rules.size,
        seed=trial_seed(rules.seed, variant),
        mechanism=MechanismReference(path=str(mechanism), digest=digest_file(mechanism)),
        corpus=corpus_reference(stats),
        architecture=section.architecture(load_section(size_section, Size)),
        optimisation=optimisation,
        measurement=section.measurement("search"),
        execution=section.execution(),
        sandbox=section.sandbox,
    )


def make_search_spec(
    *,
    framework: Framework,
    role: Path,
    stats: Path,
    training: Path,
    judgement: Path,
    sizes: dict[str, Path],
    best: Path,
) -> SearchSpec:
    """Build the spec by which candidates (or the baseline, or finalists) of a framework are judged."""
    section = load_section(training, TrainingSection)
    searched = load_section(role, SearchRole)
    rules = load_section(judgement, Judgement)
    return SearchSpec(
        framework=framework,
        corpus=corpus_reference(stats),
        architectures={name: section.architecture(load_section(sizes[name], Size)) for name in rules.sizes},
        optimisation=_optimisation(section.training, best),
        measurement=section.measurement(searched.shard),
        execution=section.execution(),
        seeds=searched.seeds,
        fitness=rules.fitness,
        margin=rules.margin,
        parameter_budget=rules.parameter_budget,
        flop_budget=rules.flop_budget,
        sandbox=section.sandbox,
    )
