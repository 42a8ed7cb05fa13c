"""Tables of the comparison: verdicts, seeds, scaling laws, tuning, certificates."""

from __future__ import annotations

from typing import Any

import pandas as pd

from evomix.figures.catalogue import VARIANTS
from evomix.figures.naming import words
from evomix.figures.tree import Results
from evomix.report.table import Columns, Table, make


def verdicts(results: Results) -> Table:
    """Return one row per validated framework: the verdict and the numbers behind it."""
    records = []
    for framework in results.frameworks():
        found = results.json(f"validation/{framework}.json")
        if found is None:
            continue
        difference, effect = found["difference"], found["effect"]
        records.append(
            {
                "framework": framework,
                "verdict": found["verdict"]["word"],
                "gain": difference["mean"],
                "low": difference["ci"][0],
                "high": difference["ci"][1],
                "relative": difference["relative"],
                "holm_p": found["primary"]["holm_p"],
                "d_z": effect["d_z"],
                "agree": f"{found['agreement']['agree']} of {found['agreement']['seeds']}",
                "equivalence_p": found["equivalence"]["holm_p"],
                "flops_ratio": found["costs"]["flops_ratio"],
                "parameters_ratio": found["costs"]["parameters_ratio"],
            }
        )
    columns: Columns = {
        "framework": ("framework", "text"),
        "verdict": ("verdict", "text"),
        "gain": ("gain (nats/token)", "gain"),
        "low": ("95 % CI from", "gain"),
        "high": ("to", "gain"),
        "relative": ("relative gain", "percent"),
        "holm_p": ("p (Holm)", "p"),
        "d_z": ("d_z", "effect"),
        "agree": ("seeds that agree", "text"),
        "equivalence_p": ("p of equivalence", "p"),
        "flops_ratio": ("FLOPs", "ratio"),
        "parameters_ratio": ("parameters", "ratio"),
    }
    caption = "Gain is standard − evolved in final loss: positive means that the evolved variant is better."
    return make("verdicts", "Verdicts", caption, columns, records)


def per_seed(results: Results) -> Table:
    """Return one row per framework and validation seed."""
    frames = [results.pairs(framework).assign(framework=framework) for framework in results.frameworks()]
    rows = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    columns: Columns = {
        "framework": ("framework", "text"),
        "seed": ("seed", "count"),
        "standard": ("standard (nats/token)", "loss"),
        "evolved": ("evolved (nats/token)", "loss"),
        "gain": ("gain", "gain"),
        "relative": ("relative gain", "percent"),
        "status": ("remark", "text"),
    }
    caption = "Final loss on the whole test shard. A diverged run has no loss and reads null."
    return make(
        "per_seed",
        "Final loss of every seed",
        caption,
        columns,
        [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")],
    )


def scaling(results: Results) -> Table:
    """Return one row per framework, variant with the fitted line, and one with the difference of the slopes."""
    records: list[dict[str, Any]] = []
    for framework in results.frameworks():
        found = results.json(f"scaling/{framework}.json") or {}
        pair = results.pair(framework)
        for role, variant in pair.items():
            block = found.get("variants", {}).get(role)
            if block:
                slope = block["slope"]
                records.append(
                    {
                        "framework": framework,
                        "variant": variant,
                        "slope": slope["mean"],
                        "low": slope["ci"][0],
                        "high": slope["ci"][1],
                        "r_squared": block["r_squared"]["means"],
                        "p": block["lack_of_fit"]["p"],
                    }
                )
        test = found.get("slope_comparison")
        if test:
            low, high = test["ci"]
            records.append(
                {
                    "framework": framework,
                    "variant": " − ".join(pair.values()),
                    "slope": test["mean"],
                    "low": low,
                    "high": high,
                    "p": test["p"],
                }
            )
    columns: Columns = {
        "framework": ("framework", "text"),
        "variant": ("variant", "text"),
        "slope": ("slope (nats per ln N)", "slope"),
        "low": ("95 % CI from", "slope"),
        "high": ("to", "slope"),
        "r_squared": ("R²", "loss"),
        "p": ("p", "p"),
    }
    caption = (
        "A steeper (more negative) slope scales better. p is the lack of fit of the line for a variant, and the paired "
        "test over seeds for the difference, which is positive when evolved falls faster."
    )
    return make("scaling", "Scaling laws", caption, columns, records)


def _choice(reference: dict[str, Any] | None) -> str:
    """Return by whose trials hyper-parameters were chosen, and why."""
    if reference is None:
        return "its own trials"
    owner = f"those of {reference['variant']}" if reference["adopted"] else "its own"
    return f"{owner} (p = {reference['p']:.3f})"


def tuning(results: Results) -> Table:
    """Return one row per framework and variant: what was chosen, how well it is known, and at what budget."""
    records: list[dict[str, Any]] = []
    for framework in results.frameworks():
        for variant in results.tuned(framework):
            found = results.json(f"tuning/{framework}/{variant}/best.json")
            if found is None:
                continue
            records.append(
                {
                    "framework": framework,
                    "variant": variant,
                    **found["chosen"],
                    "loss": found["predicted"]["loss"],
                    "standard_error": found["predicted"]["standard_error"],
                    "choice": _choice(found["reference"]),
                    "optimism": found["luckiest"]["optimism"],
                    "at_edge": ", ".join(words(name) for name in found["at_edge"]) or "no",
                    "trials": f"{found['trials']['finished']} of {found['trials']['planned']}",
                    "steps": found["budget"]["total_steps"],
                }
            )
    columns: Columns = {
        "framework": ("framework", "text"),
        "variant": ("variant", "text"),
        "learning_rate": ("learning rate", "number"),
        "warmup_steps": ("warm-up steps", "count"),
        "weight_decay": ("weight decay", "number"),
        "batch_size": ("batch size", "count"),
        "loss": ("expected loss", "loss"),
        "standard_error": ("± SE", "loss"),
        "choice": ("chosen by", "text"),
        "optimism": ("luck of the best trial", "gain"),
        "at_edge": ("at the range's edge", "text"),
        "trials": ("trials finished", "text"),
        "steps": ("steps spent", "count"),
    }
    caption = (
        "Hyper-parameters come from a surface through all trials, not from the luckiest one, whose loss was better "
        "than the surface by its luck. Both variants get the same design of trials, and the second takes the choice of "
        "the first unless the trials show (p) that it wants another."
    )
    return make("tuning", "Tuning", caption, columns, records)


def certificates(results: Results) -> Table:
    """Return one row per framework, variant, state of its weights, and check of its certificate."""
    records: list[dict[str, Any]] = []
    for framework in results.frameworks():
        for variant in dict.fromkeys([*VARIANTS, *results.pair(framework).values()]):
            for weights, name in (
                ("fresh", f"{variant}.certificate.json"),
                ("trained", f"{variant}.trained.certificate.json"),
            ):
                found = results.json(f"mechanisms/{framework}/{name}") or {}
                own = {"framework": framework, "variant": variant, "weights": weights}
                records += [
                    own | {key: item.get(key) for key in _CHECK} | {"meaning": item.get("meaning", "")}
                    for item in found.get("checks", [])
                ]
    columns: Columns = {
        "framework": ("framework", "text"),
        "variant": ("variant", "text"),
        "weights": ("weights", "text"),
        "check": ("check", "text"),
        "meaning": ("what it says", "text"),
        "layer": ("layer", "text"),
        "value": ("measured", "text"),
        "limit": ("limit", "text"),
        "passed": ("passed", "flag"),
    }
    caption = "Measured evidence that a variant, fresh and trained, is causal, sound and a member of its framework."
    return make("certificates", "Certificate", caption, columns, records)


_CHECK = ("check", "layer", "value", "limit", "passed")


def calibration(results: Results) -> Table:
    """Return one row per promise of the analysis that simulated studies have tested."""
    found = results.json("calibration.json") or {"table": []}
    records = [row | {"low": row["ci"][0], "high": row["ci"][1]} for row in found["table"]]
    columns: Columns = {
        "name": ("what", "text"),
        "estimate": ("simulated", "loss"),
        "low": ("95 % Monte-Carlo interval from", "loss"),
        "high": ("to", "loss"),
        "promise": ("promised", "text"),
        "verdict": ("verdict", "text"),
        "studies": ("studies", "count"),
    }
    caption = "The analysis of this study, run on simulated studies whose truth is known."
    return make("calibration", "Calibration", caption, columns, records)
