"""Contract of the framework matrix mixers (Hwang et al. 2024, arXiv 2407.09941).

Shapes: B batch, T tokens, D width, H heads, N rank or key width, P value width; the batch dimension may be absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from evomix.mechanisms import contract
from evomix.mechanisms.operators import keep_past

Structure = Literal["dense", "toeplitz", "low_rank", "semiseparable", "quasiseparable", "cauchy", "hierarchical"]


@dataclass(frozen=True)
class Declaration(contract.Declaration):
    """The class of the matrix; the certificate measures membership on the materialised matrix."""

    structure: Structure
    """See `MatrixMixer`."""
    rank: int | None = None
    """Rank bound of the class's blocks; None means the head width. Unused by `dense`, `toeplitz` and `cauchy`."""
    row_stochastic: bool = False
    """Whether every row is non-negative and sums to one."""
    data_dependent: bool = True
    """Whether the matrix depends on x."""
    sequence_aligned: bool = True
    """Whether the block M[s:, s:] depends on tokens from s on only, up to one common factor per row."""


class MatrixMixer(contract.Mechanism):
    """The output is a structured causal matrix, built from the input, times the values: Y^h = M^h V^h.

    The declared `structure` bounds the matrix (ranks are at most `rank`):

    - `dense`: any lower triangular matrix.
    - `toeplitz`: M[t, i] depends on t − i only.
    - `low_rank`, `semiseparable`: every block M[t:, :t+1] on and below the diagonal has rank ≤ rank.
    - `quasiseparable`: every block M[t:, :t] strictly below the diagonal has rank ≤ rank; the diagonal is free.
    - `cauchy`: M[t, i] = r_t / (a_t + b_i): element-wise inverses have rank ≤ 2.
    - `hierarchical`: with the tokens halved again and again, every off-diagonal block (right half × left half) has
      rank ≤ rank.

    Write these parts (x_BTD is the layer-normed input of the layer; values are never seen by them):

    - `generators(x_BTD) -> tuple of tensors`: the few numbers per token that determine the matrix (queries, keys,
      decays, filters, …). Data dependence goes here.
    - `matrix(*generators) -> M_BHTT`: assembles the matrix. Structure, sparsity, hierarchy and row normalisation go
      here. Future entries are cut off exactly afterwards, but anything summed over a row must be masked before.
    - `declaration`: class, rank and properties, which are measured, and `__init__`, `initialise` for parameters.

    Optional, for speed only: `multiply(generators, v_BHTP) -> y_BHTP` may replace M @ v by a fast product (FFT,
    recurrence, chunks). It is compared with the matrix and must agree.
    """

    framework: ClassVar[str] = "matrix_mixer"
    fixed: ClassVar[tuple[str, ...]] = ("forward", "assemble", "split_heads")
    declaration: ClassVar[Declaration]

    def generators(self, x_BTD: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors that determine the matrix."""
        raise NotImplementedError

    def matrix(self, *generators: Any) -> Tensor:
        """Return M_BHTT from the generators."""
        raise NotImplementedError

    def multiply(self, generators: tuple[Tensor, ...], v_BHTP: Tensor) -> Tensor:
        """Return y_BHTP = M v; override only with a faster form of the same product."""
        return self.assemble(generators).to(v_BHTP.dtype) @ v_BHTP

    # Fixed below this line: the framework itself.

    def assemble(self, generators: tuple[Tensor, ...]) -> Tensor:
        """Return M_BHTT with every future entry exactly zero."""
        return keep_past(self.matrix(*generators))

    def forward(self, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
        """Return y_BHTP."""
        return self.multiply(self.generators(x_BTD), v_BHTP).to(v_BHTP.dtype)
