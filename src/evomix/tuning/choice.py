"""From all trials of a variant to its hyper-parameters: the cautious optimum of the response surface.

The surface is fitted to the trials that finished; a point whose nearest trial did not finish is never chosen. A pruned
trial is censored: its early loss is no final loss, so all it says is that the choice lies elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evomix.artifacts import digest_file, read_json, read_table, write_json, write_table
from evomix.errors import UserError
from evomix.provenance import provenance
from evomix.settings import Tuning
from evomix.streams import numpy_stream
from evomix.tuning import journal, sharing, surface
from evomix.tuning.design import replacement
from evomix.tuning.search_space import NAMES, Dimension, coordinates, dimensions, grid

_DRAWS = 400
_APART = {"batch_size": 100.0, "learning_rate": 3.0}
"""Units of distance to the nearest trial: another batch size is never the nearer neighbour, and it is above all the
learning rate that makes trainings diverge."""


def gather(design: Path, worker_files: list[Path]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return whose trials these are, and the trials of the design with their results, replacements last.

    Raises UserError when a worker used another design or variant, or when a trial is missing: variants are tuned with
    equal budgets or not at all.
    """
    content = read_json(design, "tuning_design")
    digest = digest_file(design)
    owners, results = [], {}
    for path in worker_files:
        worker = read_json(path, "tuning_worker")
        if worker["design"] != digest:
            raise UserError(f"{path} was made from another design than {design}; delete it and run the workflow again")
        owners.append({key: worker[key] for key in ("framework", "variant", "size")})
        results.update({trial["number"]: trial for trial in worker["trials"]})
    if not owners or any(owner != owners[0] for owner in owners):
        raise UserError(
            f"the worker files {', '.join(map(str, worker_files))} are not of one variant; name one's alone"
        )
    trials, missing = list(content["trials"]), []
    for trial in trials:  # grows by the replacements
        if trial["number"] not in results:
            missing.append(trial["number"])
        elif instead := replacement(content, trial, results[trial["number"]]):
            trials.append(instead)
    if missing:
        raise UserError(f"trials {missing} of {design} have no result; run the workers that train them")
    return owners[0], [results[trial["number"]].merged(trial) for trial in trials]


def choose(
    tuning: Tuning,
    design: Path,
    worker_files: list[Path],
    output: Path,
    *,
    policy: Literal["joint", "shared"],
    reference: Path | None = None,
) -> None:
    """Write `output` (best.json), and beside it trials.parquet and study.journal.

    `reference` is the best.json of the variant that this one is compared with: its hyper-parameters are taken unless
    the trials of both show that this variant wants others (see `sharing`), or its trial nearest to them did not finish.

    `chosen` holds the hyper-parameters; the rest says how well they are known: expected loss with standard error, noise
    of a trial there, the luckiest trial and its optimism, terms of the surface, expected regret, the middle 90 % of
    optima that the trials leave possible, the budget and the steps spent of it. Losses in nats per token. Raises
    UserError with fewer than four finished trials.
    """
    owner, trials = gather(design, worker_files)
    space = dimensions(tuning)
    active = tuple(index for index, dimension in enumerate(space) if dimension.active)
    points = coordinates(space, trials)
    finished = np.array([trial["loss"] is not None for trial in trials])
    pruned = [trial for trial in trials if trial["status"] == "pruned"]
    losses = np.array([trial["loss"] for trial in trials if trial["loss"] is not None])
    if len(losses) < surface.MINIMUM:
        reason = next(trial["reason"] for trial in trials if trial["loss"] is None)
        raise UserError(
            f"only {len(losses)} of {tuning.trials} tuning trials of {owner['framework']}/{owner['variant']} finished, "
            f"the choice needs {surface.MINIMUM} (the first failure: {reason}); lower the upper end of "
            "tuning.learning_rate or raise tuning.trials"
        )
    fitted = surface.fit(points[finished], losses, active)
    at_trials, _ = fitted.predict(points)

    everywhere = grid(space)
    allowed = _near_finished(space, everywhere, points, finished)
    candidates = everywhere[allowed]
    expected, error = fitted.predict(candidates)
    index = fitted.cautious_optimum(candidates)
    shared = None if reference is None else _shared(tuning, reference, design, trials, points, active)
    if shared is not None:
        taken = int(((everywhere - coordinates(space, [shared["chosen"]])) ** 2).sum(axis=1).argmin())
        shared["own_choice"] = _values(space, candidates[index])
        shared["adopted"] = shared["p"] > sharing.LEVEL and bool(allowed[taken])
        index = int(allowed[:taken].sum()) if shared["adopted"] else index
    draws = fitted.draw(candidates, numpy_stream(tuning.seed, "surface"), _DRAWS)
    optima = candidates[draws.argmin(axis=0)]
    luckiest = int(np.flatnonzero(finished)[losses.argmin()])

    _write_trials(output.parent / "trials.parquet", trials, at_trials)
    journal.tell(output.parent / "study.journal", f"{owner['framework']}/{owner['variant']}", space, trials)
    write_json(
        output,
        "tuning",
        {
            **owner,
            "policy": policy,
            "chosen": shared["chosen"] if shared and shared["adopted"] else _values(space, candidates[index]),
            "reference": shared,
            "at_edge": [space[item].name for item in active if abs(candidates[index, item]) == 1],
            "predicted": {"loss": _short(expected[index]), "standard_error": _short(error[index])},
            "expected_regret": _short(surface.expected_regret(draws, index)),
            "possible": {
                space[item].name: [space[item].value(float(end)) for end in np.quantile(optima[:, item], [0.05, 0.95])]
                for item in active
            },
            "residual_sd": _short(fitted.noise(candidates[[index]])[0]),
            "luckiest": {
                **{key: trials[luckiest][key] for key in ("number", *NAMES, "loss")},
                "predicted": _short(at_trials[luckiest]),
                "optimism": _short(at_trials[luckiest] - trials[luckiest]["loss"]),
            },
            "surface": _described(fitted, space, active),
            "trials": {"planned": tuning.trials, "finished": len(losses), "pruned": len(pruned)},
            "pruned": {trial["number"]: trial["reason"] for trial in pruned},
            "failures": {
                trial["number"]: trial["reason"] for trial in trials if trial["loss"] is None and trial not in pruned
            },
            "budget": tuning.budget.model_dump(),
            "spent_steps": sum(trial["steps"] or 0 for trial in trials),
            "design": digest_file(design),
            "provenance": provenance("evomix.tuning.choice", tuning_policy=policy, tuning_budget=tuning.budget),
        },
    )


def _write_trials(path: Path, trials: list[dict[str, Any]], predicted: npt.NDArray[np.float64]) -> None:
    import pandas as pd

    frame = pd.DataFrame(trials)[["number", *NAMES, "status", "reason", "loss", "steps", "spec_digest"]]
    frame["steps"] = frame["steps"].astype("Int64")
    frame["loss"] = frame["loss"].astype("float64")
    write_table(path, frame.assign(predicted=predicted))


def _shared(
    tuning: Tuning,
    reference: Path,
    design: Path,
    trials: list[dict[str, Any]],
    points: npt.NDArray[np.float64],
    active: tuple[int, ...],
) -> dict[str, Any]:
    """Return what the reference chose, and the evidence of the trials that both finished for another choice."""
    best = read_json(reference, "tuning")
    if best["design"] != digest_file(design):
        raise UserError(f"{reference} was made from another design than {design}; delete it and run the workflow again")
    other = read_table(reference.parent / "trials.parquet").set_index("number")["loss"].dropna()
    both = [place for place, trial in enumerate(trials) if trial["loss"] is not None and trial["number"] in other.index]
    difference = np.array([trials[place]["loss"] - other[trials[place]["number"]] for place in both])
    # Where hardly a trial finished for both, that alone says that they differ.
    stream, enough = numpy_stream(tuning.seed, "sharing"), len(both) >= surface.MINIMUM
    p = sharing.difference_p(points[both], difference, active, stream) if enough else 0.0
    return {
        "variant": best["variant"],
        "chosen": dict(best["chosen"]),
        "p": _short(p),
        "level": sharing.LEVEL,
        "pairs": len(both),
    }


def _near_finished(
    space: tuple[Dimension, ...],
    candidates: npt.NDArray[np.float64],
    points: npt.NDArray[np.float64],
    finished: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """Return which candidates have a finished trial as their nearest, among trials of the same batch size if any."""
    scale = np.array([_APART.get(dimension.name, 1.0) for dimension in space])
    squares = (((candidates[:, None, :] - points[None, :, :]) * scale) ** 2).sum(axis=2)
    near: npt.NDArray[np.bool_] = squares[:, finished].min(axis=1) <= squares.min(axis=1)
    return near


def _values(space: tuple[Dimension, ...], point: npt.NDArray[np.float64]) -> dict[str, float | int]:
    return {item.name: item.value(float(place)) for item, place in zip(space, point, strict=True)}


def _described(fitted: surface.Surface, space: tuple[Dimension, ...], active: tuple[int, ...]) -> dict[str, Any]:
    """Return the surface in words and numbers: coefficients over coordinates in [−1, 1], and terms left out."""

    def name(term: surface.Term) -> str:
        return " × ".join(space[item].name for item in term) or "constant"

    full = surface.terms(10**6, active)
    return {
        "coefficients": {
            name(term): _short(value) for term, value in zip(fitted.terms, fitted.coefficients, strict=True)
        },
        "left_out": [name(term) for term in full if term not in fitted.terms],
        "penalties": dict(zip(("learning_rate", "others"), map(_short, fitted.penalties), strict=True)),
        "degrees_of_freedom": _short(fitted.degrees_of_freedom),
        "noise_growth": fitted.growth,
    }


def _short(value: float) -> float:
    """Return `value` with six significant digits, so that rounding errors of a linear algebra library do not show."""
    return float(f"{value:.6g}")
