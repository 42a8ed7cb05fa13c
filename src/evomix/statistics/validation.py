"""The paired comparison that answers the question: phase `validation`, writes validation/{framework}.json for all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evomix.artifacts import read_json, write_json
from evomix.provenance import provenance
from evomix.settings import TuningBudget, Validation
from evomix.statistics import tuning_noise, verdict
from evomix.statistics.criteria import all_met, strong_criteria, success_criteria
from evomix.statistics.observations import Observation, bits, distrust, losses, read_observations, require_seeds, select
from evomix.statistics.paired import paired_t
from evomix.statistics.paired_study import DIVERGED_RULE, Pairs, analyse
from evomix.statistics.registration import registration
from evomix.statistics.subset import LARGEST_SHARE, subset_noise, too_small
from evomix.statistics.winners_curse import optimism

ARMS = ("standard", "evolved")
SIGN = "differences are standard − evolved; positive means the evolved variant is better"


def _warnings(result: dict[str, Any], scaling: dict[str, Any] | None) -> list[str]:
    found = []
    seeds = result["agreement"]["seeds"]
    if seeds < 6:
        found.append(f"{seeds} seeds: no exact test can give p below {2 ** (1 - seeds):.3g}, and intervals are wide")
    if "withheld" in result["verdict"]:
        found.append(
            f"a variant was tuned by {tuning_noise.fewest(result['tuning'])} finished trials: too few to know what it "
            "wants, or that both want the same, so any claim may be the tuning's luck"
        )
    for arm, tuning in result["tuning"].items():
        trials = tuning["trials"]
        if lost := trials["planned"] - trials["finished"] - trials["pruned"]:
            found.append(f"{lost} trials of the tuning of {arm} failed and so did all that replaced them")
    pruned = sum(arm["trials"]["pruned"] for arm in result["tuning"].values())
    if pruned:
        found.append(
            f"{pruned} trials of the tunings were pruned on their early loss: the share of the tuning's noise in the "
            "test was calibrated without pruning"
        )
    reference = result["tuning"].get("evolved", {}).get("reference")
    if reference and reference["adopted"]:
        found.append(
            f"both variants have the standard's hyper-parameters: the trials do not show that evolved wants others "
            f"(p = {reference['p']:.3g})"
        )
    if result["primary"]["expected_regrets"] is None:
        found.append("noise of the tuning is not counted: intervals and p hold for the hyper-parameters as they are")
    curse = result.get("winners_curse")
    if curse and not curse["found"]:
        found.append(f"the search found nothing to freeze ({curse['reason']})")
    if result["degenerate"]:
        found.append(
            "all differences over seeds are equal, as if seeds did not act; p is at least the exact sign-flip p"
        )
    if not math.isfinite(result["equivalence"]["margin"]):
        found.append(
            "no scaling law of the standard: the equivalence margin is unknown and equivalence cannot be shown"
        )
    elif not result["equivalence"]["slope"] < 0:
        found.append("the standard's loss does not fall with size: a margin in parameter equivalents means little here")
    if result["verdict"]["word"] in ("better", "worse") and result["equivalence"]["equivalent"]:
        found.append("the difference is real but lies within the equivalence margin: too small to matter")
    if result["diverged"]["standard"] or result["diverged"]["evolved"]:
        found.append(DIVERGED_RULE)
    for arm, noise in result["subset"].items():
        if too_small(noise):
            found.append(
                f"curves of the {arm} variant: their {noise['rows']} held-out rows add {noise['noise']:.2g} nats to a "
                f"point, {noise['share']:.2g} of the seeds' standard deviation and more than {LARGEST_SHARE:g} of it; "
                "final losses are on the whole shard and are not touched by this"
            )
    return found + ([] if scaling is None else scaling["warnings"])


def _per_seed(seeds: Sequence[int], runs: dict[str, list[Observation]]) -> list[dict[str, Any]]:
    rows = []
    for position, seed in enumerate(seeds):
        standard, evolved = (runs[arm][position] for arm in ARMS)
        row: dict[str, Any] = {"seed": seed, "difference": standard.loss - evolved.loss}
        for arm, item in ((ARMS[0], standard), (ARMS[1], evolved)):
            row |= {arm: item.loss, f"{arm}_bits_per_byte": item.bits_per_byte, f"{arm}_status": item.status}
        rows.append(row)
    return rows


def _costs(runs: dict[str, list[Observation]]) -> dict[str, Any]:
    first = {arm: runs[arm][0] for arm in ARMS}
    return {
        "parameters": {arm: item.parameters for arm, item in first.items()},
        "total_parameters": {arm: item.total_parameters for arm, item in first.items()},
        "flops_per_token": {arm: item.flops_per_token for arm, item in first.items()},
        "parameters_ratio": first["evolved"].parameters / first["standard"].parameters,
        "flops_ratio": first["evolved"].flops_per_token / first["standard"].flops_per_token,
    }


def judge(result: dict[str, Any], scaling: dict[str, Any] | None, settings: Validation) -> None:
    """Add criteria of success, the verdict's sentence and warnings to an analysis that has `costs` and `tuning`.

    Tunings of too few trials withhold every claim: the word that they would have allowed stands beside the verdict.
    """
    joint = result["tuning"] and result["provenance"]["tuning_policy"] == "joint"
    if joint and tuning_noise.fewest(result["tuning"]) < tuning_noise.CLAIM_TRIALS:
        result["verdict"] = {"word": "inconclusive", "withheld": result["verdict"]["word"]}
    result["criteria"] = success_criteria(result, scaling, settings)
    result["strong_criteria"] = strong_criteria(result)
    result["success"] = all_met(result["criteria"]) and result["verdict"]["word"] == "better"
    result["strong_success"] = result["success"] and all_met(result["strong_criteria"], ("interpretable",))
    result["verdict"]["sentence"] = verdict.sentence(result)
    result["warnings"] = _warnings(result, scaling)


def validate(
    validation: Validation,
    frameworks: Sequence[str],
    summaries: Sequence[Path],
    scaling: Mapping[str, Path],
    output: Path,
    *,
    tunings: Mapping[str, Mapping[str, Path]] | None = None,
    selections: Mapping[str, Path] | None = None,
    rescorings: Mapping[str, Path] | None = None,
    preset: str | None = None,
    tuning_policy: str | None = None,
    tuning_budget: TuningBudget | None = None,
) -> None:
    """Compare reference and candidate of every framework and write `output`/{framework}.json (schema "validation").

    `summaries` are training summaries (may hold more than needed); `scaling` maps a framework to its scaling JSON.
    `tunings` maps a framework to {"standard": best.json, "evolved": best.json}, whose noise widens the error of the
    comparison and whose budgets must be `tuning_budget`; `selections` maps it to its selection.json, whose claims are
    set beside the result; `rescorings` maps it to the trusted re-measurement of the evolved runs: one that confirms no
    loss makes the run count as diverged.
    `validation.pair` names the variants in the roles standard and evolved. UserError when a run is missing.
    """
    observations = read_observations(summaries)
    variants = {framework: dict(zip(ARMS, validation.pair(framework), strict=True)) for framework in frameworks}
    for framework, path in (rescorings or {}).items():
        observations = distrust(observations, framework, variants[framework]["evolved"], read_json(path, "rescoring"))
    laws = {framework: read_json(path, "scaling") for framework, path in scaling.items()}
    runs: dict[str, dict[str, list[Observation]]] = {}
    for framework in frameworks:
        runs[framework] = {
            arm: require_seeds(
                select(observations, framework, variant, validation.size),
                validation.seeds,
                f"{framework}/{variant} at size {validation.size}",
            )
            for arm, variant in variants[framework].items()
        }
    tuned = {name: tuning_noise.accounts((tunings or {}).get(name, {}), tuning_budget) for name in frameworks}
    pairs = [
        Pairs(
            framework,
            list(validation.seeds),
            losses(arms["standard"]),
            losses(arms["evolved"]),
            tuning_noise.expected_regrets((tunings or {}).get(framework, {}), tuning_policy),
        )
        for framework, arms in runs.items()
    ]
    results = analyse(pairs, validation, laws)
    block = provenance(
        "evomix.statistics.validation", preset=preset, tuning_policy=tuning_policy, tuning_budget=tuning_budget
    )
    for framework, result in results.items():
        arms = runs[framework]
        in_bits = bits(arms["standard"]) - bits(arms["evolved"])
        test = paired_t(in_bits[np.isfinite(in_bits)], validation.alpha)
        result |= {
            "size": validation.size,
            "alpha": validation.alpha,
            "sign": SIGN,
            "unit": "nats per token",
            "variants": variants[framework],
            "seeds": list(validation.seeds),
            "per_seed": _per_seed(validation.seeds, arms),
            "bits_per_byte": {"mean": test.mean, "ci": [test.low, test.high]},
            "costs": _costs(arms),
            "subset": {arm: subset_noise(items) for arm, items in arms.items()},
            "tuning": tuned[framework],
            "protocol": registration(
                validation, budget=tuning_budget, steps=max(item.steps for arm in arms.values() for item in arm)
            ),
            "provenance": block,
        }
        if selections and framework in selections:
            selection = read_json(selections[framework], "selection")
            result["winners_curse"] = optimism(selection, result["difference"]["mean"])
        judge(result, laws.get(framework), validation)
        write_json(output / f"{framework}.json", "validation", result)
