"""Is a mechanism the structured matrix that it declares? Measured on its materialised matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from evomix.mechanisms.matrices import mixing_matrix
from evomix.mechanisms.matrix_mixer.contract import MatrixMixer
from evomix.mechanisms.measurement import (
    LONGEST,
    Measurement,
    Probe,
    block_rank,
    difference,
    linearity,
    rank_below_diagonal,
)

_SMALLEST = 1e-250
"""Rows smaller than this have lost the digits that a comparison needs."""


def measure(mechanism: MatrixMixer, probe: Probe) -> list[Measurement]:
    """Run all tests of membership."""
    declaration = mechanism.declaration
    results = linearity(mechanism, probe)
    x = probe.x(1, LONGEST)
    matrix = mixing_matrix(mechanism, x)
    assembled = mechanism.assemble(mechanism.generators(x))
    gap = difference(matrix, assembled.to(matrix.dtype))
    results.append(Measurement("F1", "the fast product equals the assembled matrix", gap, 1e-9))
    results += _structure(mechanism, probe)
    if declaration.row_stochastic:
        excess = max(difference(matrix.sum(-1), torch.ones_like(matrix[..., 0])), float(-matrix.amin()))
        results.append(Measurement("M2", "rows are non-negative and sum to one", excess, 1e-9))
    if not declaration.data_dependent:
        other = mixing_matrix(mechanism, probe.x(1, LONGEST, "other"))
        results.append(Measurement("M3", "the matrix does not depend on the data", difference(matrix, other), 0.0))
    if declaration.sequence_aligned:
        results.append(_alignment(mechanism, probe))
    return results


def _structure(mechanism: MatrixMixer, probe: Probe) -> list[Measurement]:
    """Test M2: the declared class."""
    structure = mechanism.declaration.structure
    rank = mechanism.declaration.rank or mechanism.head_width
    if structure == "dense":
        return []
    if structure == "toeplitz":
        matrix = mixing_matrix(mechanism, probe.x(2, 48))
        gap = difference(matrix[..., 1:, 1:], matrix[..., :-1, :-1])
        return [Measurement("M2", "diagonals are constant", gap, 1e-9)]
    if structure == "hierarchical":
        tokens = 1 << (4 * (rank + 1) - 1).bit_length()
        found = _off_diagonal_rank(mixing_matrix(mechanism, probe.x(1, tokens)), 0, tokens, rank)
        return [Measurement("M2", "off-diagonal blocks of every halving have the declared rank", found, float(rank))]
    if structure == "cauchy":
        rank = 2
    tokens = max(24, 3 * (rank + 2))
    found = 0
    for length in (tokens, 2 * tokens):
        matrix = mixing_matrix(mechanism, probe.x(1, length))
        if structure == "cauchy":
            past = torch.ones(length, length, dtype=torch.bool).tril()
            matrix = torch.where(past, matrix, 1.0).reciprocal()
        found = max(found, rank_below_diagonal(matrix, include_diagonal=structure != "quasiseparable"))
    what = "element-wise inverse" if structure == "cauchy" else "matrix"
    return [Measurement("M2", f"blocks of the {what} below a cut have the declared rank", float(found), float(rank))]


def _off_diagonal_rank(matrix_BHTT: Tensor, start: int, size: int, rank: int) -> float:
    """Return the largest rank of the right × left block over all halvings whose blocks are larger than `rank`."""
    half = size // 2
    if half <= rank:
        return 0.0
    middle = start + half
    own = block_rank(matrix_BHTT, slice(middle, start + size), slice(start, middle))
    left = _off_diagonal_rank(matrix_BHTT, start, half, rank)
    return max(float(own), left, _off_diagonal_rank(matrix_BHTT, middle, half, rank))


def _alignment(mechanism: MatrixMixer, probe: Probe) -> Measurement:
    """Test L1: new tokens before s change the block M[s:, s:] by one factor per row at most.

    A quasiseparable matrix has a diagonal of its own: there the block strictly below the diagonal is compared.
    """
    tokens, s = 40, 13
    x = probe.x(2, tokens)
    changed = torch.cat([probe.x(2, s, "before"), x[:, s:]], 1)
    before, after = mixing_matrix(mechanism, x), mixing_matrix(mechanism, changed)
    below = -1 if mechanism.declaration.structure == "quasiseparable" else 0
    old, new = before[..., s:, s:].tril(below), after[..., s:, s:].tril(below)
    old_size, new_size = old.abs().amax(-1, keepdim=True), new.abs().amax(-1, keepdim=True)
    old, new = old / old_size.clamp(min=_SMALLEST), new / new_size.clamp(min=_SMALLEST)
    factor = (old * new).sum(-1, keepdim=True) / old.square().sum(-1, keepdim=True).clamp(min=1e-9)
    usable = (old_size > _SMALLEST) & (new_size > _SMALLEST)
    gap = torch.where(usable, (new - factor * old).abs(), 0.0).amax()
    return Measurement("L1", "a block depends on its own tokens only", float(gap), 1e-9)
