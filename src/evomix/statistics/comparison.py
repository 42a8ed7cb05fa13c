"""The judged variants of all frameworks on the same seeds: phase `comparison`, writes comparison/frameworks.json.

Judged is what each framework's validation judges: the evolved variant, unless the config names another candidate.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomix.artifacts import read_json, write_json
from evomix.provenance import provenance
from evomix.settings import TuningBudget, Validation
from evomix.statistics import tuning_noise
from evomix.statistics.effect import effect
from evomix.statistics.multiplicity import holm
from evomix.statistics.observations import distrust, losses, read_observations, require_seeds, select
from evomix.statistics.paired import Floats, paired_t
from evomix.statistics.registration import registration
from evomix.statistics.repeated_measures import anova, friedman
from evomix.streams import numpy_stream


def contrasts(
    loss_SV: Floats, names: Sequence[str], alpha: float, regrets: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Compare every pair of variants by a paired t, Holm-corrected over the pairs; `loss_SV` has no NaN.

    The difference is first − second: positive means that the second has the lower loss. `regrets` are the expected
    regrets of the variants' tunings, whose noise widens the error (None: not counted).
    """
    rows, p_values = [], {}
    for first, second in itertools.combinations(range(len(names)), 2):
        a, b = loss_SV[:, first], loss_SV[:, second]
        noise = tuning_noise.variance([regrets[names[first]], regrets[names[second]]]) if regrets else 0.0
        test = paired_t(a - b, alpha, noise)
        found = effect(a, b, test, alpha)
        label = f"{names[first]} − {names[second]}"
        p_values[label] = test.p
        rows.append({
            "first": names[first], "second": names[second], "label": label,
            "mean": test.mean, "ci": [test.low, test.high], "t": test.t, "df": test.df, "p": test.p,
            "d_z": found["d_z"], "d_z_ci": found["ci"],
        })  # fmt: skip
    adjusted = holm(p_values)
    for row in rows:
        row["holm_p"] = adjusted[row["label"]]
        different = bool(row["holm_p"] < alpha)
        row["lower"] = (row["second"] if row["mean"] > 0 else row["first"]) if different else None
    return rows


def analyse(
    loss_SV: Floats,
    names: Sequence[str],
    seeds: Sequence[int],
    alpha: float,
    regrets: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return ANOVA, Friedman and contrasts of V variants over S seeds; NaN marks a diverged run.

    Seeds with a diverged run are left out of ANOVA and contrasts and rank worst in Friedman's test.
    """
    complete: NDArray[np.bool_] = np.asarray(np.isfinite(loss_SV).all(axis=1))
    kept = loss_SV[complete]
    left_out = [seed for seed, whole in zip(seeds, complete, strict=True) if not whole]
    warnings = []
    if left_out:
        warnings.append(
            f"seeds {left_out} have a diverged run: left out of ANOVA and contrasts, ranked worst in Friedman's test"
        )
    if regrets is None:
        warnings.append("noise of the tunings is not counted: contrasts hold for the hyper-parameters as they are")
    if len(names) < 2:
        warnings.append("one framework only: nothing to compare")
    return {
        "left_out": left_out,
        "anova": anova(kept),
        "friedman": friedman(loss_SV, numpy_stream(0, "comparison", "friedman")),
        "contrasts": contrasts(kept, names, alpha, regrets) if len(kept) >= 1 else [],
        "warnings": warnings,
    }


def _sentence(result: dict[str, Any], alpha: float) -> str:
    lower = [row for row in result["contrasts"] if row["lower"]]
    if lower:
        said = "; ".join(
            f"{row['lower']} is lower than {row['first'] if row['lower'] == row['second'] else row['second']} by "
            f"{abs(row['mean']):.4f} nats/token (Holm p = {row['holm_p']:.2g})"
            for row in lower
        )
        return f"{said}."
    return f"No pair of the frameworks' judged variants differs at level {alpha:g} after Holm."


def compare(
    validation: Validation,
    frameworks: Sequence[str],
    summaries: Sequence[Path],
    output: Path,
    *,
    tunings: Mapping[str, Path] | None = None,
    rescorings: Mapping[str, Path] | None = None,
    preset: str | None = None,
    tuning_policy: str | None = None,
    tuning_budget: TuningBudget | None = None,
) -> None:
    """Compare the frameworks' judged variants on the validation seeds and write `output` (schema "comparison").

    `tunings` maps a framework to the best.json of its judged variant, `rescorings` to the trusted re-measurement of its
    runs: one that confirms no loss makes the run count as diverged. Raises UserError when a run is missing.
    """
    observations = read_observations(summaries)
    judged = {name: validation.pair(name)[1] for name in frameworks}
    for name, path in (rescorings or {}).items():
        observations = distrust(observations, name, judged[name], read_json(path, "rescoring"))
    runs = {
        name: require_seeds(
            select(observations, name, variant, validation.size),
            validation.seeds,
            f"{name}/{variant} at size {validation.size}",
        )
        for name, variant in judged.items()
    }
    loss_SV = np.column_stack([losses(items) for items in runs.values()])
    tuning_noise.accounts(tunings or {}, tuning_budget)
    regrets = tuning_noise.expected_regrets(tunings or {}, None)
    result = analyse(loss_SV, list(runs), validation.seeds, validation.alpha, regrets)
    means = {name: float(np.nanmean(column)) if np.isfinite(column).any() else None
             for name, column in zip(runs, loss_SV.T, strict=True)}  # fmt: skip
    ranking = sorted(runs, key=lambda name: (means[name] is None, means[name] or 0.0, name))
    write_json(output, "comparison", {
        **result,
        "frameworks": list(runs), "size": validation.size, "seeds": list(validation.seeds),
        "alpha": validation.alpha, "unit": "nats per token",
        "variants": {
            name: {
                "variant": judged[name],
                "mean": means[name],
                "sd": float(np.nanstd(column, ddof=1)) if np.isfinite(column).sum() > 1 else None,
                "losses": {str(item.seed): item.loss for item in runs[name]},
                "bits_per_byte": {str(item.seed): item.bits_per_byte for item in runs[name]},
                "diverged": [item.seed for item in runs[name] if item.status != "finished"],
                "rank": ranking.index(name) + 1,
                "parameters": runs[name][0].parameters,
                "total_parameters": runs[name][0].total_parameters,
                "flops_per_token": runs[name][0].flops_per_token,
            }
            for name, column in zip(runs, loss_SV.T, strict=True)
        },
        "sentence": _sentence(result, validation.alpha),
        "protocol": registration(
            validation, budget=tuning_budget, steps=max(item.steps for column in runs.values() for item in column)
        ),
        "provenance": provenance(
            "evomix.statistics.comparison", preset=preset, tuning_policy=tuning_policy, tuning_budget=tuning_budget
        ),
    })  # fmt: skip
