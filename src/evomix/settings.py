"""The sections of the config: typed, closed (unknown keys are errors), one description per key.

Only pydantic is imported here: the Snakefile imports this module and is parsed again inside every cluster job.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from evomix import copies
from evomix.mechanisms.members import require_members
from evomix.model.sizes import non_embedding_parameters

Framework = Literal["coefficient_dynamics", "test_time_regression", "matrix_mixer"]
FRAMEWORKS: tuple[Framework, ...] = ("coefficient_dynamics", "test_time_regression", "matrix_mixer")
Arm = Literal["guided", "random", "best_of_n"]
ARMS: tuple[Arm, ...] = ("guided", "random", "best_of_n")
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")]
Variant = Annotated[str, Field(pattern=r"^\w+$")]
Seed = Annotated[int, Field(ge=0, lt=copies.SEEDS)]
Seeds = Annotated[list[Seed], Field(min_length=1)]


class Settings(BaseModel):
    """A frozen, closed section of the config."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Corpus(Settings):
    """Where the text comes from and how it becomes rows of tokens."""

    source: str = Field(
        description="`grammar` (own story grammar, offline), `tinystories` (the dataset of key `dataset`), or a path "
        "to a JSONL, text or Parquet file or a folder of such files"
    )
    dataset: str = Field(
        "roneneldan/TinyStories",
        description="hub name or local mirror of the dataset, for `source: tinystories`",
    )
    stories: int = Field(20_000, ge=100, description="stories to write, for `source: grammar`")
    held_out: float = Field(
        0.15,
        gt=0,
        lt=0.9,
        description="share of documents held out and divided equally into search, selection and "
        "test (`tinystories` divides its own validation split instead)",
    )
    vocabulary: int = Field(
        ge=257, le=65_535, description="tokens of the byte-level BPE vocabulary, end-of-text included"
    )
    sequence_length: int = Field(ge=8, description="tokens per training row")


class Size(Settings):
    """One model size: the shape of the fixed shell and the parameter count it must hit within 3 %."""

    width: int = Field(ge=8, description="model width d")
    layers: int = Field(ge=1, description="number of blocks")
    heads: int = Field(ge=1, description="heads; must divide the width")
    parameters: int = Field(ge=1, description="target number of non-embedding parameters N (standard variant)")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        count = non_embedding_parameters(self.width, self.layers)
        if abs(count / self.parameters - 1) > 0.03:
            raise ValueError(
                f"width {self.width} with {self.layers} layers has {count:,} non-embedding parameters, "
                f"{count / self.parameters - 1:+.1%} off the target {self.parameters:,} (limit 3 %)"
            )
        return self


class Training(Settings):
    """Optimiser, schedule and bookkeeping of every full-length training."""

    steps: int = Field(ge=2, description="optimiser steps of a full training")
    clip: float = Field(1.0, gt=0, description="limit of the global gradient norm")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of embeddings and residual branches")
    evaluate_every: int = Field(ge=1, description="steps between points of the held-out curve")
    evaluation_rows: int = Field(
        8_192,
        ge=1,
        description="rows of the fixed held-out subset of the curve (its standard error, .09/√rows, is a fifth of the "
        "SD of seeds that is expected at full length, .005)",
    )
    checkpoint_every: int = Field(5_000, ge=1, description="steps between resume checkpoints")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="arithmetic of the forward and backward pass"
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="where trainings run; `cuda` without a GPU is an error")
    deterministic: bool = Field(
        True, description="a GPU prefers operations that give the same bits every time (a CPU always does)"
    )


class TuningBudget(Settings):
    """What the tuning of a variant may spend, the same for all; it stands in every result."""

    size: Name
    trials: int
    steps: int
    total_steps: int
    pruning: Literal["none", "halving"]


class Tuning(Settings):
    """Search for the optimiser's hyper-parameters, the same budget for every variant."""

    policy: Literal["joint", "shared"] = Field(
        "joint",
        description="`joint` tunes standard and evolved alike; `shared` tunes the standard and uses it for both",
    )
    size: Name = Field(description="size at which trials are trained")
    trials: int = Field(ge=4, description="trials per variant")
    steps: int = Field(ge=2, description="optimiser steps per trial")
    workers: int = Field(1, ge=1, description="jobs among which the trials of one variant are dealt out")
    pruning: Literal["none", "halving"] = Field(
        "none",
        description="`halving`: Optuna's successive halving stops trials early, each judged within its worker's share "
        "(so `workers` then decides too); at equal compute it chooses worse than fewer whole trials",
    )
    seed: Seed = Field(7, description="seed of the trial design and of the trial trainings")
    learning_rate: tuple[float, float] = Field((1e-4, 1e-3), description="range, sampled on a log scale")
    warmup_steps: tuple[int, int] = Field((500, 2_000), description="range")
    weight_decay: tuple[float, float] = Field((0.0, 0.1), description="range")
    batch_sizes: list[int] = Field([32, 64, 128], min_length=1, description="choices")

    @property
    def budget(self) -> TuningBudget:
        """What every variant's tuning may spend."""
        return TuningBudget(
            size=self.size, trials=self.trials, steps=self.steps, total_steps=self.trials * self.steps,
            pruning=self.pruning,
        )  # fmt: skip


KEY_VARIABLE = "EVOMIX_API_KEY"
"""Environment variable that holds the language model's key where there is no key file."""


class Llm(Settings):
    """The language model behind arms `guided` and `best_of_n` (any OpenAI-compatible endpoint)."""

    provider: Literal["openai", "recorded"] = Field(
        "openai",
        description="`openai` calls the endpoint; `recorded` replays stored responses and never calls",
    )
    api_base: str = Field("https://api.openai.com/v1", description="endpoint")
    models: dict[str, float] = Field({"gpt-5": 1.0}, min_length=1, description="model name: weight")
    temperature: float = Field(0.8, ge=0, description="sampling temperature")
    max_tokens: int = Field(16_000, ge=1, description="limit of tokens per response")
    timeout: float = Field(300.0, gt=0, description="seconds before a call counts as failed")
    retries: int = Field(5, ge=0, description="retries of a failed call, with exponential backoff")
    attempts: int = Field(3, ge=1, description="proposals per slot: a refused one goes back with the reason")
    key_file: str = Field(
        "~/.config/evomix/api_key",
        description="file (mode 0600) that holds the key; read only inside `propose`. EVOMIX_API_KEY is used if absent",
    )
    responses: str | None = Field(
        None, description="folder of recorded responses (default: `responses/` in the search's own folder)"
    )
    dollars: float = Field(100.0, ge=0, description="cost cap per search arm; reaching it stops the search cleanly")
    tokens: int | None = Field(None, ge=1, description="cap of tokens sent and received per search arm; null for none")
    price_per_million: tuple[float, float] = Field(
        (1.25, 10.0), description="dollars per million input and output tokens"
    )


class Judgement(Settings):
    """What decides a candidate's score."""

    sizes: list[Name] = Field(min_length=2, description="sizes over which a candidate's slope is measured")
    seeds: Seeds = Field([7], description="training seeds shared by all candidates; never those of the validation")
    fitness: Literal["slope", "gain"] = Field(
        "slope", description="`slope`: −slope of loss against ln N, guarded by `margin`; `gain`: mean paired gain"
    )
    margin: float = Field(0.01, ge=0, description="a candidate needs a mean paired gain ≥ −margin (nats per token)")
    parameter_budget: float = Field(1.1, ge=1, description="limit of non-embedding parameters relative to the standard")
    flop_budget: float = Field(2.0, ge=1, description="limit of forward FLOPs per token relative to the standard")


class Proposing(Settings):
    """What decides the next proposals; nothing here depends on how long the search is."""

    wave_size: int = Field(5, ge=1, description="candidates proposed from one population and evaluated in parallel")
    population: int = Field(20, ge=2, description="OpenEvolve population size")
    archive: int = Field(10, ge=1, description="OpenEvolve archive size")
    islands: int = Field(2, ge=1, description="OpenEvolve islands")
    elite_ratio: float = Field(0.3, ge=0, le=1, description="OpenEvolve elite selection ratio")
    migration_interval: int = Field(2, ge=1, description="waves between ring migrations of the best program")
    patience: int = Field(10, ge=1, description="stop after this many candidates without improvement")
    max_invalid: int = Field(5, ge=1, description="stop after more than this many refused candidates in a row")
    seed: Seed = Field(2026, description="seed of the search itself (sampling, patch kinds, proposals)")
    llm: Llm = Field(default_factory=lambda: Llm(), description="the language model")


class Evolution(Proposing, Judgement):
    """The search of one framework."""

    arms: list[Arm] = Field(
        ["guided"],
        min_length=1,
        description="how candidates are proposed; the first arm yields the variant `evolved`, the others are controls "
        "with the same number of evaluations",
    )
    iterations: int = Field(ge=1, description="candidates per arm; a multiple of `wave_size`")
    baseline_seeds: Seeds = Field(
        list(range(7, 15)),
        description="seeds of the standard's repeats that estimate the noise; must begin with `seeds`",
    )
    finalists: int = Field(3, ge=1, description="best candidates re-ranked on fresh seeds and the selection shard")
    finalist_seeds: Seeds = Field([21, 22, 23], description="fresh seeds of the re-ranking")
    seed_members: dict[Framework, list[Variant]] = Field(
        {}, description="gallery members that seed a framework's search beside the standard"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.iterations % self.wave_size:
            raise ValueError(f"iterations ({self.iterations}) must be a multiple of wave_size ({self.wave_size})")
        if self.baseline_seeds[: len(self.seeds)] != self.seeds:
            raise ValueError(f"baseline_seeds ({self.baseline_seeds}) must begin with seeds ({self.seeds})")
        if set(self.finalist_seeds) & set(self.baseline_seeds):
            raise ValueError("finalist_seeds must be fresh: none of them may stand in baseline_seeds")
        for framework, names in self.seed_members.items():
            require_members("seed_members", framework, names)
            if len(set(names)) != len(names):
                raise ValueError(f"seed_members names a member of {framework} twice")
        return self

    @property
    def waves(self) -> int:
        """Number of propose–evaluate–tell waves."""
        return self.iterations // self.wave_size


class Scaling(Settings):
    """Loss against model size for both variants."""

    sizes: list[Name] = Field(min_length=2, description="sizes of the scaling law")
    seeds: Seeds = Field(description="seeds trained at every size")


class Validation(Settings):
    """The paired comparison that answers the question."""

    size: Name = Field(description="size at which variants are compared")
    seeds: Annotated[list[Seed], Field(min_length=2)] = Field(description="paired seeds; used nowhere in the search")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="two-sided level of the tests")
    relative_gain: float = Field(0.01, ge=0, description="success needs a relative gain in final loss above this")
    agreement: float = Field(0.7, gt=0, le=1, description="success needs this share of seeds to agree")
    calibration_studies: int = Field(
        2_000,
        ge=20,
        description="simulated studies of each kind by which target `calibration.json` checks the analysis",
    )
    aa_studies: int = Field(
        1,
        ge=1,
        description="A/A studies of target `aa.json`: the standard against its own copy, each with a tuning and final "
        "seeds of its own",
    )
    equivalence: float = Field(
        0.05,
        gt=0,
        description="equivalence margin in parameter equivalents: the loss worth this share of parameters",
    )
    reference: dict[Framework, Variant] = Field(
        {}, description="framework: gallery member that stands in for `standard` as the variant to beat"
    )
    candidate: dict[Framework, Variant] = Field(
        {}, description="framework: gallery member (or `standard`) that is judged in place of `evolved`"
    )

    def pair(self, framework: str) -> tuple[str, str]:
        """Return the variants of a framework that are compared, the reference first."""
        reference = {str(key): name for key, name in self.reference.items()}.get(framework, "standard")
        return reference, {str(key): name for key, name in self.candidate.items()}.get(framework, "evolved")


class Ablation(Settings):
    """Which edits make the candidate what it is: each is taken back alone and trained anew on the validation's seeds.

    These seeds are the validation's because an effect is a difference to its runs. That is harmless: the verdict stands
    before, nothing is chosen by what is found here, and nothing found here is a claim.
    """

    edits: int = Field(
        8, ge=0, description="most edits per framework (smallest neighbours are merged); 0 leaves the ablation out"
    )
    seeds: int = Field(5, ge=2, description="number of seeds: the first of `validation.seeds`, as far as there are")
    add_alone: bool = Field(True, description="also train the reference with each edit alone")
    workers: int = Field(1, ge=1, description="jobs among which the trainings of one framework are dealt out")


class Gallery(Settings):
    """Training of every gallery member, tuned as the standard is: target `gallery.json`, run only when asked."""

    size: Name = Field(description="size at which members are trained")
    steps: int = Field(ge=2, description="optimiser steps of each training")
    seed: Seed = Field(7, description="training seed of all members; never one of the validation")


class Sandbox(Settings):
    """Containment of candidate code."""

    require: list[Literal["rlimits", "landlock", "seccomp"]] = Field(
        [], description="layers whose absence on a machine is an error; absent layers are always recorded"
    )
    memory_gb: float = Field(8.0, gt=0, description="limit of private memory of a candidate's process")
    seconds_per_step: float = Field(
        5.0,
        gt=0,
        description="limit of wall time of a candidate's training, per optimiser step (plus two minutes)",
    )


class Costs(Settings):
    """Assumptions behind energy and dollars, in the plan and in the report; no result depends on them."""

    gpu_watts: float = Field(700.0, ge=0, description="power of one GPU at work (H100 and H200: the board's limit)")
    cpu_watts: float = Field(12.0, ge=0, description="power of one busy CPU core with its share of the machine")
    overhead: float = Field(1.2, ge=1, description="energy of the whole site over that of the devices (PUE)")
    dollars_per_gpu_hour: float = Field(3.0, ge=0, description="rent of one GPU for an hour")
    dollars_per_cpu_hour: float = Field(0.05, ge=0, description="rent of one CPU core for an hour")
