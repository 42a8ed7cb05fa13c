"""The catalogue of figures: what each one is called, concludes and reads.

The workflow imports this module to know the inputs of rule `figure`, the report to know titles and captions; nothing
heavy is imported here. A figure's inputs are path templates under the results folder with the wildcards {framework},
{variant}, {size}, {seed} and {arm}; `inputs()` expands them from the config.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from evomix.config import Config

VARIANTS = ("standard", "evolved")
"""The roles of the two variants that every framework compares, the reference first."""

STUDY = "study"
"""Folder name of figures that belong to no single framework: <results>/figures/study/<name>.svg."""

SUFFIXES = ("svg", "pdf", "png", "csv")
"""Files every figure writes; the CSV holds the numbers it shows."""

Runs = Literal["validation", "scaling"]

_SUMMARY = "training/{framework}/{variant}/{size}/seed_{seed}/summary.json"
_CURVE = "training/{framework}/{variant}/{size}/seed_{seed}/curve.parquet"


@dataclass(frozen=True)
class Input:
    """A path template; `runs` says which runs {size} and {seed} range over, where it has them."""

    template: str
    runs: Runs | None = None


@dataclass(frozen=True)
class Entry:
    """One figure: the module evomix.figures.<name>, its words, its inputs, its group in the reports."""

    name: str
    title: str
    caption: str
    group: str
    per_framework: bool
    inputs: tuple[Input, ...]


_SECTION = Input("config/validation.json")
_VALIDATION = (_SECTION, Input("validation/{framework}.json"), Input(_SUMMARY, "validation"))

SEARCH, COMPARISON, MECHANISM, TUNING, PROBES = "Search", "Comparison", "Mechanism", "Tuning", "Probes"

CATALOGUE: tuple[Entry, ...] = (
    Entry(
        "per_seed",
        "Gain of every seed",
        "Evolved beats standard only if the bars agree in sign and their mean with its confidence interval stays clear "
        "of zero; one long bar is luck.",
        COMPARISON,
        True,
        _VALIDATION,
    ),
    Entry(
        "box_plot",
        "Final loss, standard against evolved",
        "Boxes show the spread over seeds and lines join the two variants of one seed: the slope of the lines, not the "
        "overlap of the boxes, is what the paired test sees.",
        COMPARISON,
        True,
        _VALIDATION,
    ),
    Entry(
        "training_curves",
        "Held-out loss during training",
        "A gap that opens early and closes by the last step is faster learning, not a better mechanism: judge the "
        "variants where the curves end.",
        COMPARISON,
        True,
        (_SECTION, Input(_SUMMARY, "validation"), Input(_CURVE, "validation")),
    ),
    Entry(
        "scaling_curves",
        "Loss against model size",
        "Parallel lines mean a constant gain at every size; a gain worth scaling widens to the right, and one that "
        "only worsens the smallest model is not a gain.",
        COMPARISON,
        True,
        (Input("config/scaling.json"), Input(_SUMMARY, "scaling")),
    ),
    Entry(
        "fitness",
        "Fitness over the search",
        "Progress is real where the best-so-far line leaves the band of the standard's own repeats and leads the "
        "control arms; inside the band it is selection of noise.",
        SEARCH,
        True,
        (
            Input("config/judgement.json"),
            Input("evolution/{framework}/baseline/evaluation.json"),
            Input("evolution/{framework}/{arm}/history.parquet"),
        ),
    ),
    Entry(
        "arms",
        "Arms of the search compared",
        "Guidance is worth something where its frozen candidate beats the standard on fresh seeds and the control "
        "arms, which had as many evaluations, do not; the best of many dots is lucky.",
        SEARCH,
        True,
        (
            Input("config/judgement.json"),
            Input("evolution/{framework}/baseline/evaluation.json"),
            Input("evolution/{framework}/{arm}/history.parquet"),
            Input("evolution/{framework}/{arm}/selection.json"),
        ),
    ),
    Entry(
        "slope_gain",
        "Slope against mean gain of all candidates",
        "Only the upper right is good: a steep slope left of the guard line was bought by a worse small model.",
        SEARCH,
        True,
        (
            Input("config/judgement.json"),
            Input("evolution/{framework}/baseline/evaluation.json"),
            Input("evolution/{framework}/{arm}/history.parquet"),
            Input("evolution/{framework}/{arm}/selection.json"),
        ),
    ),
    Entry(
        "lineage",
        "Lineage of the candidates",
        "The marked path leads from the seed to the winner: many short branches mean broad search, one long chain "
        "means accumulated edits, crosses are refused proposals.",
        SEARCH,
        True,
        (
            Input("config/judgement.json"),
            Input("evolution/{framework}/baseline/evaluation.json"),
            Input("evolution/{framework}/{arm}/history.parquet"),
            Input("evolution/{framework}/{arm}/selection.json"),
        ),
    ),
    Entry(
        "tuning_surface",
        "Tuning of both variants",
        "Each variant is compared at its own fitted optimum: the comparison is fair when both optima lie inside the "
        "searched range and had the same number of trials.",
        TUNING,
        True,
        (
            Input("config/tuning.json"),
            Input("tuning/{framework}/{variant}/trials.parquet"),
            Input("tuning/{framework}/{variant}/best.json"),
        ),
    ),
    Entry(
        "mixing_matrices",
        "Mixing matrices on the same sentence",
        "Row t shows which earlier tokens position t reads: compare standard and evolved head by head to see what the "
        "evolved mechanism attends to, forgets or subtracts.",
        MECHANISM,
        True,
        (Input("mixing/{framework}/{variant}.safetensors"),),
    ),
    Entry(
        "probes",
        "Abilities beyond the loss",
        "A variant has an ability where its dots leave the bar of chance; the variants differ in it only where their "
        "intervals part, and two variants at chance are not alike but untested.",
        PROBES,
        True,
        (Input("probes/{framework}.json"),),
    ),
    Entry(
        "length_generalisation",
        "Contexts longer than trained",
        "A variant carries beyond its trained length where its loss stays level or falls to the right of the dotted "
        "line; the steps on the right show at which positions it breaks.",
        PROBES,
        True,
        (Input("probes/{framework}.json"),),
    ),
    Entry(
        "comparison",
        "Frameworks against each other",
        "The best formalism is the one whose evolved variant has the lowest loss on the shared seeds; the right panel "
        "shows whether it also gains most over its own standard.",
        COMPARISON,
        False,
        _VALIDATION,
    ),
)

ON_DEMAND: tuple[Entry, ...] = (
    Entry(
        "ablation",
        "What each edit is worth",
        "The gain comes from the edits whose interval stays right of zero; one at exactly zero changes nothing that "
        "is computed, and one left of zero harms.",
        MECHANISM,
        True,
        (Input("ablation/{framework}.json"),),
    ),
    Entry(
        "horizon",
        "Would a shorter training have chosen the same?",
        "Where rank correlation and the order of pairs fall well below one, candidates judged after that share of "
        "training would have been chosen by luck.",
        SEARCH,
        True,
        (Input("evolution/{framework}/{arm}/horizon.json"),),
    ),
    Entry(
        "calibration",
        "Calibration of the analysis",
        "The verdicts can be trusted where the rates of wrong claims stay at the dotted level, p-values without an "
        "effect are flat, and simulated power lies on the formula.",
        COMPARISON,
        False,
        (Input("calibration.json"),),
    ),
    Entry(
        "aa_studies",
        "The standard against its own copies",
        "Every difference here is noise of tuning and seeds alone: the analysis is sound while at most about one "
        "interval in twenty misses zero.",
        COMPARISON,
        False,
        (Input("aa.json"),),
    ),
    Entry(
        "gallery",
        "The expert mechanisms",
        "A member below the unigram entropy has learnt from text; those left of their softmax at no more FLOPs are "
        "the opponents that an evolved mechanism should also beat.",
        MECHANISM,
        False,
        (Input("gallery.json"), Input("gallery_timing.json")),
    ),
)
"""Figures of phases that a study runs only when asked; the report shows them where they have been drawn."""


def names() -> list[str]:
    """Return the names of all figures, in reading order."""
    return [entry.name for entry in CATALOGUE + ON_DEMAND]


def find(name: str) -> Entry:
    """Return the entry called `name`; KeyError when there is none."""
    return {entry.name: entry for entry in CATALOGUE + ON_DEMAND}[name]


def stem(name: str, framework: str | None = None) -> str:
    """Return the figure's output stem under the results folder: figures/<framework or `study`>/<name>."""
    return f"figures/{framework or STUDY}/{name}"


def _variants(item: Input, config: Config, framework: str) -> tuple[str, ...]:
    """Return the variants that {variant} ranges over: those compared; in the tuning, those that have one."""
    shared = config.tuning.policy == "shared" and item.template.startswith("tuning/")
    return ("standard",) if shared else config.validation.pair(framework)


def inputs(name: str, config: Config, framework: str | None = None) -> list[str]:
    """Return every file under the results folder that figure `name` reads in this study, without duplicates.

    `framework` is required by per-framework figures and ignored by the others, which read all frameworks.
    """
    entry = find(name)
    frameworks = [framework] if entry.per_framework and framework else list(config.frameworks)
    runs: dict[Runs | None, tuple[list[str], list[int]]] = {
        None: ([""], [0]),
        "validation": ([config.validation.size], list(config.validation.seeds)),
        "scaling": (list(config.scaling.sizes), list(config.scaling.seeds)),
    }
    found = [
        item.template.format(framework=view, variant=variant, arm=arm, size=size, seed=seed)
        for item in entry.inputs
        for view in frameworks
        for variant, arm, size, seed in itertools.product(
            _variants(item, config, view), config.evolution.arms, *runs[item.runs]
        )
    ]
    return list(dict.fromkeys(found))


def captions() -> str:
    """Return workflow/report/figure.rst, the captions of `snakemake --report`: one sentence per figure."""
    lines = "".join(f'  "{entry.name}": "{entry.caption}",\n' for entry in CATALOGUE + ON_DEMAND)
    return f"{{% set captions = {{\n{lines}}} %}}{{{{ captions[snakemake.wildcards.figure] }}}}\n"
