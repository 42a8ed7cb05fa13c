"""The confirmatory analysis of PROTOCOL.md on arrays: every framework's paired losses, judged together.

Pure functions: the phase `validation` feeds them real losses, the calibration simulated ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evomix.settings import Validation
from evomix.statistics import tuning_noise, verdict
from evomix.statistics.effect import effect
from evomix.statistics.equivalence import margin_from_slope, tost
from evomix.statistics.multiplicity import holm
from evomix.statistics.paired import Floats, bootstrap_interval, paired_t, sign_flip_p, signed_rank_p, signed_ranks
from evomix.statistics.power import detectable_effect, power, seeds_needed
from evomix.streams import numpy_stream

DIVERGED_RULE = (
    "A diverged run is a result and is never replaced. With any diverged run the confirmatory test is the exact "
    "signed-rank test in which a pair with one diverged run takes the highest rank against the arm that diverged and "
    "a pair with two counts as a tie, after finite differences are moved by one standard error of the tuning towards "
    "the other side; means, intervals and effect sizes then describe the finished pairs only."
)


@dataclass(frozen=True)
class Pairs:
    """Final losses (nats per token) of both arms over the same seeds, shape (n,); NaN marks a diverged run.

    `regrets` are the losses that each arm's tuning is expected to have left (None: no tuning noise is counted).
    """

    framework: str
    seeds: list[int]
    standard: Floats
    evolved: Floats
    regrets: dict[str, float] | None = None


def _scores(pairs: Pairs) -> Floats:
    """Return standard − evolved, ±inf where one arm diverged, 0 where both did."""
    lost_standard, lost_evolved = ~np.isfinite(pairs.standard), ~np.isfinite(pairs.evolved)
    scores = pairs.standard - pairs.evolved
    scores[lost_standard & ~lost_evolved] = np.inf
    scores[lost_evolved & ~lost_standard] = -np.inf
    scores[lost_standard & lost_evolved] = 0.0
    return scores


def _moved_towards_zero(scores: Floats, distance: float) -> Floats:
    """Return scores with the finite ones moved by `distance` against the direction that the ranks favour."""
    moved: Floats = scores - np.sign(np.sum(signed_ranks(scores))) * distance
    return moved


def _margin(scaling: dict[str, Any] | None, share: float) -> tuple[float, float]:
    """Return the standard's slope (nats per ln N) and the equivalence margin in nats; NaN without a scaling law."""
    block = (scaling or {}).get("variants", {}).get("standard")
    slope = block["slope"]["mean"] if block else None
    if slope is None or not math.isfinite(slope):
        return math.nan, math.nan
    return slope, margin_from_slope(slope, share)


def analyse_one(
    pairs: Pairs, settings: Validation, scaling: dict[str, Any] | None, *, tests: int, resamples: int
) -> dict[str, Any]:
    """Return the analysis of one framework before the correction over `tests` frameworks."""
    scores = _scores(pairs)
    finished = np.isfinite(pairs.standard) & np.isfinite(pairs.evolved)
    standard, evolved = pairs.standard[finished], pairs.evolved[finished]
    difference = standard - evolved
    noise = tuning_noise.variance(list(pairs.regrets.values())) if pairs.regrets else 0.0
    test = paired_t(difference, settings.alpha, noise)
    plain = paired_t(difference, settings.alpha)
    lost = bool(np.sum(~np.isfinite(pairs.standard)) + np.sum(~np.isfinite(pairs.evolved)))
    slope, margin = _margin(scaling, settings.equivalence)
    equal = tost(difference, test, margin, settings.alpha)
    first_step = settings.alpha / tests
    base = float(np.mean(standard)) if len(standard) else math.nan
    # Effects are planned in units of the whole error: one √n-th of it is what a single seed contributes.
    unit = test.error * math.sqrt(test.n)
    sought = settings.relative_gain * base / unit if unit > 0 else math.nan
    found = effect(standard, evolved, plain, settings.alpha)
    rank_p = signed_rank_p(scores, numpy_stream(0, "validation", pairs.framework, "signs"))
    cautious = _moved_towards_zero(scores, math.sqrt(noise))
    cautious_p = signed_rank_p(cautious, numpy_stream(0, "validation", pairs.framework, "signs"))
    bootstrap = (
        bootstrap_interval(
            difference, settings.alpha, numpy_stream(0, "validation", pairs.framework, "bootstrap"), resamples
        )
        if resamples
        else (math.nan, math.nan)
    )
    detectable = detectable_effect(test.n, first_step)
    agree = int(np.sum(scores > 0))
    return {
        "framework": pairs.framework,
        "difference": {
            "mean": test.mean, "sd": test.sd, "ci": [test.low, test.high], "level": 1 - settings.alpha,
            "relative": test.mean / base if base > 0 else math.nan, "pairs": test.n,
            "mean_standard": base, "mean_evolved": float(np.mean(evolved)) if len(evolved) else math.nan,
        },
        "primary": {
            "test": "exact signed-rank with diverged runs ranked worst" if lost else "paired t",
            "t": test.t, "df": test.df, "p": cautious_p if lost else test.p, "standard_error": test.error,
            "tuning_error": math.sqrt(noise), "expected_regrets": pairs.regrets,
            "direction": float(np.sign(np.sum(signed_ranks(scores)) if lost else test.mean)),
        },
        "seeds_only": {
            "t": plain.t, "df": plain.df, "p": plain.p, "ci": [plain.low, plain.high],
            "note": "the paired t as if the hyper-parameters were known; not confirmatory",
        },
        "effect": found,
        "robust": {
            "permutation_p": sign_flip_p(difference, numpy_stream(0, "validation", pairs.framework, "permutation")),
            "wilcoxon_p": rank_p,
            "bootstrap_ci": list(bootstrap), "bootstrap": "BCa", "resamples": resamples,
        },
        "equivalence": {
            "margin": margin, "parameter_share": settings.equivalence, "slope": slope,
            "p_lower": equal.p_lower, "p_upper": equal.p_upper, "p": equal.p,
            "ci": [equal.low, equal.high], "level": 1 - 2 * settings.alpha,
        },
        "power": {
            "alpha": first_step, "target": 0.8, "pairs": test.n,
            "achieved": power(abs(test.mean) / unit if unit > 0 else math.nan, test.n, first_step),
            "detectable_d_z": detectable, "detectable_difference": detectable * unit,
            "at_relative_gain": power(sought, test.n, first_step),
            "seeds_for_relative_gain": seeds_needed(sought, first_step),
            "note": "`achieved` is the power at the observed effect and only restates p; plan with the other numbers",
        },
        "agreement": {"agree": agree, "seeds": len(scores), "share": agree / len(scores)},
        "diverged": {
            arm: [seed for seed, value in zip(pairs.seeds, values, strict=True) if not math.isfinite(value)]
            for arm, values in (("standard", pairs.standard), ("evolved", pairs.evolved))
        },
        "degenerate": test.degenerate,
    }  # fmt: skip


def analyse(
    pairs: Sequence[Pairs],
    settings: Validation,
    scaling: Mapping[str, dict[str, Any]],
    *,
    resamples: int = 9_999,
) -> dict[str, dict[str, Any]]:
    """Analyse all frameworks together: Holm over them for the difference, and separately for the equivalence tests.

    `scaling` maps a framework to its scaling analysis (may lack some). `resamples` 0 leaves out the bootstrap.
    Verdict words are set here; the criteria of success are added by `judge`.
    """
    results = {
        item.framework: analyse_one(item, settings, scaling.get(item.framework), tests=len(pairs), resamples=resamples)
        for item in pairs
    }
    differences = holm({name: result["primary"]["p"] for name, result in results.items()})
    equivalences = holm({name: result["equivalence"]["p"] for name, result in results.items()})
    for name, result in results.items():
        result["primary"] |= {"holm_p": differences[name], "family": list(results)}
        result["equivalence"] |= {
            "holm_p": equivalences[name], "equivalent": bool(equivalences[name] < settings.alpha)
        }  # fmt: skip
        result["verdict"] = {"word": verdict.word(result, settings.alpha)}
    return results
