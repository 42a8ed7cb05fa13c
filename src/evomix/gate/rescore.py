"""Re-measuring a score: the loss of saved weights, where the candidate sees hidden states only, and a leak audit.

A tripwire catches some tampering; measuring the score where the candidate cannot reach it makes all of it pointless.
This process holds tokens, targets, embedding, feed-forward, head and loss and never loads the candidate; a sandboxed
process mixes (see `remote`). Hidden states do carry the future, so a second, fresh mixing process is given shuffled
rows in other batches with random tokens after a cut: hidden states before the cut must not change.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load

from evomix.artifacts import canonical_json, digest_file, read_json
from evomix.corpus.tokens import TokenRows
from evomix.errors import UserError
from evomix.gate import sandbox
from evomix.gate.refusal import measured
from evomix.gate.remote import Link, RemoteError, RemoteMechanism
from evomix.model.transformer import Transformer
from evomix.specs import RunSpec, read_spec
from evomix.streams import numpy_stream
from evomix.training.inputs import check_corpus, use_threads
from evomix.training.scoring import ROWS_PER_BATCH, measure, summarise

AUDIT_SHARE, AUDIT_MOST = 0.25, 512
"""Rows of the audit: this share of the shard, at most so many."""
_AUDIT_BATCH = 24
"""Batch size of the audit, in turn with that of the score, which a leak may be tied to."""
AGREEMENT = {"float32": 1e-4, "bfloat16": 5e-3}
"""How far the loss may be from what training reported, in nats per token."""
UNCHANGED = {"float32": 2e-5, "bfloat16": 2e-2}
"""How far, on average, hidden states (normed, of size one) before a cut may move; rounding moves them less."""

_LEAK = "On real text output t changes with tokens after t; make the mechanism causal for every length and batch."
_DISAGREES = "The loss measured afresh is not what training reported; nothing may touch the loss or the record."

_START_SECONDS = 120.0
_SECONDS_PER_ROW = 1.0


class RescoreError(Exception):
    """The candidate's process failed while its score was measured: the score does not count."""


class _Recorded(Transformer):
    """The trusted model; keeps the hidden states of the rows that will be audited."""

    def watch(self, positions: npt.NDArray[np.int64]) -> None:
        """Remember the hidden states of these rows, numbered in the order in which `measure` visits rows."""
        self.wanted, self.seen = set(positions.tolist()), 0
        self.kept: dict[int, torch.Tensor] = {}

    def hidden(self, tokens_BT: torch.Tensor, dropout: torch.Generator | None) -> torch.Tensor:
        """Return the hidden states, as the base does, and keep those that are watched."""
        hidden_BTD = super().hidden(tokens_BT, dropout)
        for row in range(len(tokens_BT)):
            if self.seen + row in self.wanted:
                self.kept[self.seen + row] = hidden_BTD[row].float().cpu()
        self.seen += len(tokens_BT)
        return hidden_BTD


def rescore(spec: RunSpec, weights: Path, shard: str, *, reported: float | None = None) -> dict[str, Any]:
    """Measure saved weights on a whole shard without the candidate's reach, and audit them for leaks.

    Returns {loss, bits_per_byte, tokens, layers, checks, passed}: `checks` are gate records (`rescore.agreement` with
    the loss that training reported, if given, and `rescore.leak`). Raises RescoreError when the candidate's process
    fails, UserError when weights, mechanism or corpus are not the spec's.
    """
    use_threads()
    check_corpus(spec)
    if digest_file(Path(spec.mechanism.path)) != spec.mechanism.digest:
        raise UserError(f"mechanism {spec.mechanism.path} has changed since the spec was written; run the rule again")
    rows = TokenRows(Path(spec.corpus.folder), shard, spec.architecture.sequence_length)
    audited = _audited(spec, len(rows))
    model = _trusted_model(spec, weights)
    model.watch(audited)
    every, losses = np.arange(len(rows), dtype=np.int64), torch.empty(0)

    def score() -> None:
        nonlocal losses
        losses = measure(model, rows, every, spec.execution.precision)

    layers = _with_mixer(spec, weights, model, len(rows), score)
    record = summarise(losses, rows)
    moved = 0.0

    def audit() -> None:
        nonlocal moved
        moved = _movement(spec, model, rows, audited)

    _with_mixer(spec, weights, model, len(audited), audit)
    precision = spec.execution.precision
    checks = [measured("rescore.leak", moved, UNCHANGED[precision], _LEAK, "rescore")]
    if reported is not None:
        gap = abs(record["loss"] - reported) if record["loss"] is not None else float("inf")
        checks.append(measured("rescore.agreement", gap, AGREEMENT[precision], _DISAGREES, "rescore"))
    return {**record, "layers": layers, "checks": checks, "passed": all(item["passed"] for item in checks)}


def _audited(spec: RunSpec, rows: int) -> npt.NDArray[np.int64]:
    """Return the shuffled numbers of the rows that are audited."""
    count = min(rows, AUDIT_MOST, max(16, round(AUDIT_SHARE * rows)))
    order: npt.NDArray[np.int64] = numpy_stream(spec.seed, "audit", spec.mechanism.digest).permutation(rows)[:count]
    return order


def _trusted_model(spec: RunSpec, weights: Path) -> _Recorded:
    """Return the shell with the saved weights and links where the mechanisms would be; UserError for other weights."""
    model = _Recorded(spec.architecture, RemoteMechanism, spec.seed)
    try:
        descriptor = os.open(weights, os.O_RDONLY | os.O_NOFOLLOW)
        with open(descriptor, "rb") as stream:
            tensors = load(stream.read())
        shell = {name: item for name, item in tensors.items() if ".mechanism." not in name}
        model.load_state_dict(shell)
    except (OSError, SafetensorError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{weights} does not hold this run's weights ({first}); delete it and train again") from None
    for layer, mechanism in enumerate(_mechanisms(model)):
        mechanism.layer = layer
    return model.to(spec.execution.device)


def _mechanisms(model: Transformer) -> list[RemoteMechanism]:
    return cast(list[RemoteMechanism], model.mechanisms())


def _with_mixer(
    spec: RunSpec, weights: Path, model: Transformer, rows: int, work: Callable[[], None]
) -> dict[str, str]:
    """Run `work` while a fresh sandboxed process mixes for the model; return the sandbox's layers."""
    done = False

    def converse(incoming: BinaryIO, outgoing: BinaryIO) -> None:
        nonlocal done
        for mechanism in _mechanisms(model):
            mechanism.link = Link(incoming, outgoing)
        work()
        done = True

    with tempfile.TemporaryDirectory(prefix="evomix-rescore-") as name:
        job, scratch = Path(name) / "job.json", Path(name) / "scratch"
        scratch.mkdir()
        content = {"spec": json.loads(spec.model_dump_json()), "weights": str(weights.resolve())}
        job.write_text(canonical_json(content), encoding="utf-8")
        try:
            result = sandbox.run(
                ["-m", "evomix.gate.mixing", str(job)],
                readable=[job, weights, Path(spec.mechanism.path)],
                scratch=scratch,
                settings=spec.sandbox,
                seconds=_START_SECONDS + _SECONDS_PER_ROW * rows,
                gpu=spec.execution.device == "cuda",
                file_gb=0.01,
                converse=converse,
            )
        except RemoteError as error:
            raise RescoreError(f"the mixing process sent {error}") from None
    if result.stopped and result.stopped.startswith("signal"):
        raise SystemExit(128 + int(result.stopped.split()[1]))
    if not done:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        reason = result.stopped or (lines[-1] if lines else f"status {result.returncode}")
        raise RescoreError(f"the mixing process ended early ({reason})")
    return result.layers


def _movement(spec: RunSpec, model: _Recorded, rows: TokenRows, audited: npt.NDArray[np.int64]) -> float:
    """Return the largest row's mean |Δ hidden| before its cut when all tokens from the cut on are drawn at random."""
    stream, length = numpy_stream(spec.seed, "audit tokens", spec.mechanism.digest), spec.architecture.sequence_length
    before, worst = dict(model.kept), 0.0
    device = model.embedding.weight.device
    half = spec.execution.precision == "bfloat16"
    model.watch(np.empty(0, dtype=np.int64))
    start, sizes = 0, itertools.cycle((_AUDIT_BATCH, ROWS_PER_BATCH[device.type]))
    while start < len(audited):
        part = audited[start : start + next(sizes)]
        start += len(part)
        tokens = rows.read(part)[:, :-1]
        cuts = stream.integers(1, length, size=len(part))
        random = stream.integers(0, spec.architecture.vocabulary, size=tokens.shape)
        changed = torch.from_numpy(np.where(np.arange(length) >= cuts[:, None], random, tokens)).to(device)
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            hidden_BTD = model.hidden(changed, None).float().cpu()
        for row, cut in enumerate(cuts):
            change = (hidden_BTD[row, :cut] - before[int(part[row])][:cut]).abs().mean()
            worst = max(worst, float(change.nan_to_num(torch.inf)))
    return worst


def recheck(spec: Path) -> dict[str, Any]:
    """Re-measure the finished run beside its spec.json: {size, seed, status, reported, loss, checks, passed, reason}.

    A diverged run reported no loss and has none to check. A candidate's process that fails here fails the run.
    """
    run, summary = read_spec(spec, RunSpec), read_json(spec.parent / "summary.json", "training")
    reported = summary["loss"]
    record: dict[str, Any] = {"size": run.size, "seed": run.seed, "status": summary["status"], "reported": reported}
    if reported is None:
        return {**record, "loss": None, "checks": [], "passed": True, "reason": None}
    try:
        found = rescore(run, spec.parent / "model.safetensors", run.measurement.shard, reported=reported)
    except RescoreError as error:
        return {**record, "loss": None, "checks": [], "passed": False, "reason": str(error)}
    reason = "; ".join(item["hint"] for item in found["checks"] if not item["passed"]) or None
    return {**record, **{key: found[key] for key in ("loss", "checks", "passed")}, "reason": reason}
