"""Integrity: the candidate is executed and must behave like an honest causal mixer. Call only inside the sandbox.

Complements the certificate (which measures membership and basic behaviour in float64): the conditions here are those of
a training (its length, batch, precision, gradients), every parameter is perturbed, and what could be changed behind our
back is compared before and after.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evomix.artifacts import digest_file
from evomix.errors import UserError
from evomix.gate import budgets, causality, tripwires
from evomix.gate.causality import EXACT, Bench
from evomix.gate.inputs import Inputs, gap, states
from evomix.gate.refusal import measured, outcome
from evomix.mechanisms import library
from evomix.mechanisms.contract import Mechanism
from evomix.specs import Architecture
from evomix.streams import derive

WIDEST = 1e5
"""Largest output of a token relative to the usual one's: beyond, a relative comparison would measure it alone."""

_BATCH = "Each sequence must be computed alone: never average, normalise or sort over the batch dimension."
_LENGTH = "Output t must not change when tokens are appended: do not use the total length or statistics over it."
_STATE = "The forward pass must keep nothing: no counters, caches or buffers that change, no global state."
_RANDOM = "The same input must give the same output: draw random numbers in __init__ and register them as a buffer."
_MODE = "Training and evaluation, with gradients or without, must compute the same function; the shell applies dropout."
_FINITE = "Outputs and gradients must be finite: subtract the row maximum before exp, add a small constant to divisors."
_GRADIENT = "The gradient of the values must be that of the function computed: do not detach or round what mixes them."
_RANGE = "No token's output may be enormous beside the others'; normalise rows, or bound decays and scales."
_ERROR = "The mechanism raised an error when run; mend it: {}"
_LOOSE = "Register fixed tensors with self.register_buffer(name, tensor), so that they move with the model: {}."

Record = dict[str, Any]


def check(
    path: Path,
    framework: str,
    architecture: Architecture,
    *,
    batch: int,
    parameter_budget: float,
    flop_budget: float,
    weights: Path | None = None,
) -> list[Record]:
    """Run every integrity check on a mechanism file at one shape of the shell; `weights` adds a trained model's layers.

    `batch` is the training's. What is fed depends on the file's own content, so that no program can know it.

    Returns one record per check. A mechanism that raises gets the record of the error, and the remaining checks go on.
    """
    before, seed = tripwires.torch_picture(), input_seed(path)
    bench = Bench(Inputs(architecture.width, architecture.heads, seed), architecture.sequence_length, batch)
    try:
        kind = library.load(path, framework)
        mechanisms = states(kind, architecture, weights, seed)
        pictures = [tripwires.picture(item) for item in (*mechanisms.values(), kind)]
    except UserError as error:
        return [_raised("integrity.loads", error)]
    except Exception as error:  # whatever a candidate raises is its own fault, and a record
        return [_raised("integrity.loads", error)]
    records = []
    for test in (causality.check, _rows, _prefix, _memory, _modes, _finite, _range, _gradients):
        records += _attempt(test, mechanisms, bench)
    same = pictures == [tripwires.picture(item) for item in (*mechanisms.values(), kind)]
    records.append(outcome("integrity.object unchanged", "integrity", same, True, same, _STATE))
    try:
        records += budgets.check(kind, architecture, parameter_budget, flop_budget)
    except Exception as error:  # as above
        records.append(_raised("budget.runs", error))
    changed = tripwires.changes(before, tripwires.torch_picture())
    records.append(outcome("integrity.tampering", "integrity", ", ".join(changed[:5]), "nothing", not changed, _STATE))
    return records


def input_seed(path: Path) -> int:
    """Return the seed of all inputs fed to a mechanism file: a program cannot hold what its own digest decides."""
    return derive(int(digest_file(path)[:12], 16), "gate")


def _raised(check: str, error: Exception) -> Record:
    text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
    return outcome(check, "integrity", text, "no error", False, _ERROR.format(text))


def _attempt(
    test: Callable[[Mechanism, Bench, str], Iterator[Record]], mechanisms: dict[str, Mechanism], bench: Bench
) -> list[Record]:
    """Run one test in every state and keep, of equal checks, the worst."""
    worst: dict[str, Record] = {}
    for state, mechanism in mechanisms.items():
        try:
            mechanism.eval()
            found = list(test(mechanism, bench, state))
        except Exception as error:  # whatever a candidate raises is its own fault, and a record
            name = "causality" if test is causality.check else test.__name__.strip("_")
            found = [_raised(f"integrity.{name}", error)]
        for record in found:
            known = worst.get(record["check"])
            if known is None or (known["passed"] and not record["passed"]):
                worst[record["check"]] = record
    return list(worst.values())


def _rows(mechanism: Mechanism, bench: Bench, state: str) -> Iterator[Record]:
    """Rows of a batch are independent: alone, permuted, and beside others, in batches small and large."""
    inputs, worst = bench.inputs, 0.0
    for batch, tokens in ((4, bench.tokens), (96, 6)):
        x, v = inputs(batch, tokens)
        order = torch.arange(batch).flip(0)
        with torch.no_grad():
            y = mechanism(x, v)
            worst = max(worst, gap(mechanism(x[order], v[order]), y[order]))
            for row in (0, batch - 1):
                worst = max(worst, gap(mechanism(x[row : row + 1], v[row : row + 1]), y[row : row + 1]))
            worst = max(worst, gap(mechanism(x[: batch // 2], v[: batch // 2]), y[: batch // 2]))
    yield measured("integrity.batch independence", worst, EXACT, _BATCH)


def _prefix(mechanism: Mechanism, bench: Bench, state: str) -> Iterator[Record]:
    inputs, full = bench.inputs, bench.tokens
    x, v = inputs(2, full)
    with torch.no_grad():
        y = mechanism(x, v)
        parts = [mechanism(x[:, :t], v[:, :, :t]) for t in (1, 2, full // 2, full - 1)]
    worst = max(gap(part, y[:, :, : part.shape[-2]]) for part in parts)
    yield measured("integrity.prefix equality", worst, EXACT, _LENGTH)


def _memory(mechanism: Mechanism, bench: Bench, state: str) -> Iterator[Record]:
    """Equal calls give equal outputs, and inputs stay as they are."""
    inputs = bench.inputs
    x, v = inputs(3, bench.tokens)
    kept_x, kept_v = x.clone(), v.clone()
    with torch.no_grad():
        y = mechanism(x, v)
        again = mechanism(x, v)
        untouched = torch.equal(x, kept_x) and torch.equal(v, kept_v)
        for call in range(12):
            mechanism(*inputs(1 + call % 3, 1 + 5 * (call % 4), f"between {call}"))
        later = mechanism(kept_x, kept_v)
    loose = tripwires.loose_tensors(mechanism)
    yield measured("integrity.determinism", _exact(y, again), 0.0, _RANDOM)
    yield measured("integrity.statelessness", _exact(y, later), 0.0, _STATE)
    yield outcome("integrity.inputs unchanged", "integrity", untouched, True, untouched, "Do not write into x or v.")
    text = ", ".join(loose[:5])
    yield outcome("integrity.registered tensors", "integrity", text, "", not loose, _LOOSE.format(text))


def _exact(a: Tensor, b: Tensor) -> float:
    """Return the largest difference, where two entries that are not finite count as equal."""
    same = a.shape == b.shape and bool(torch.equal(a.isfinite(), b.isfinite()))
    return gap(a, b) if same else math.inf


def _modes(mechanism: Mechanism, bench: Bench, state: str) -> Iterator[Record]:
    inputs = bench.inputs
    x, v = inputs(2, bench.tokens)
    with torch.no_grad():
        y = mechanism.eval()(x, v)
        trained = mechanism.train()(x, v)
    with torch.inference_mode():
        inferred = mechanism.eval()(x, v)
    learned = mechanism.train()(x.requires_grad_(), v.requires_grad_())
    mechanism.eval()
    worst = max(gap(trained, y), gap(inferred.clone(), y), gap(learned, y))
    yield measured("integrity.training equals evaluation", worst, EXACT, _MODE)


def _finite(mechanism: Mechanism, bench: Bench, state: str) -> Iterator[Record]:
    """Shape, type and finite numbers, over many sequences, in single precision and under autocast."""
    inputs = bench.inputs
    faults = {"shape and dtype": 0, "finite": 0}
    mechanism.float()
    for batch, tokens, scale, half in (
        (512, 16, 1.0, False), (4, bench.tokens, 1.0, False), (4, 9, 0.0, False),
        (4, 9, 4.0, False), (2, bench.tokens, 1.0, True), (3, 1, 1.0, False),
    ):  # fmt: skip
        x, v = (scale * item.float() for item in inputs(batch, tokens))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            y = mechanism(x, v)
        faults["shape and dtype"] += int(y.shape != v.shape or (y.dtype != v.dtype and not half))
        faults["finite"] += int((~y.isfinite()).flatten(1).any(1).sum()) if y.dim() > 1 else 1
    mechanism.double()
    hints = {"shape and dtype": "Return a tensor of v's shape (B, H, T, P) and dtype.", "finite": _FINITE}
    for name, count in faults.items():
        if state != "perturbed" or name != "finite":
            yield measured(f"integrity.{name}", count, 0, hints[name])


def _range(mechanism: Mechanism, bench: Bench, state: str) -> Iterator[Record]:
    """No token's output dwarfs the others', which would hide behind it from every relative comparison."""
    worst = 0.0
    for text in (False, True):
        with torch.no_grad():
            y = mechanism(*bench.inputs(4, bench.tokens, "range", text))
        sizes = y.nan_to_num(0.0, 0.0, 0.0).abs().amax((1, -1))
        worst = max(worst, float((sizes.amax(-1) / sizes.median(-1)[0].clamp(min=1.0)).amax()))
    yield measured("integrity.range", worst, WIDEST, _RANGE)


def _gradients(mechanism: Mechanism, bench: Bench, state: str) -> Iterator[Record]:
    """Gradients are finite, reach the values, and are those of the function (central differences, one direction)."""
    inputs, tokens = bench.inputs, min(32, bench.tokens)
    x, v = inputs(2, tokens)
    direction, weight = inputs(2, tokens, "direction")[1], inputs(2, tokens, "weight")[1]
    mechanism.zero_grad()
    y = mechanism(x.requires_grad_(), v.requires_grad_())
    (y * weight).sum().backward()
    gradients = [item.grad for item in (x, v, *mechanism.parameters()) if item.grad is not None]
    broken = sum(int(not bool(item.isfinite().all())) for item in gradients)
    mechanism.zero_grad()
    if v.grad is None:
        yield outcome("integrity.gradient of values", "integrity", "none", "a gradient", False, _GRADIENT)
        return
    with torch.no_grad():
        up, down = mechanism(x, v + 1e-4 * direction), mechanism(x, v - 1e-4 * direction)
    slope = float((weight * (up - down)).sum()) / 2e-4
    claimed = float((v.grad * direction).sum())
    wrong = abs(slope - claimed) / max(1.0, abs(slope)) if math.isfinite(slope) else 0.0
    silent = float(v.grad.abs().amax() == 0)
    if state != "perturbed":
        yield measured("integrity.finite gradients", broken, 0, _FINITE)
        yield measured("integrity.gradient flow", silent, 0, "The output does not depend on the values; mix v into y.")
    yield measured("integrity.gradient of values", wrong, 1e-5, _GRADIENT)
