"""Causal Toeplitz mixer with a learned filter: the same weights at every position, applied by FFT.

    M[t, i] = h_{t−i},   y = h ∗ v (a linear convolution: FFT of length 2T, so that nothing wraps around)

Source: Hwang et al. 2024 (arXiv 2407.09941), made causal by keeping non-negative lags only.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evomix.mechanisms.matrix_mixer.contract import Declaration, MatrixMixer
from evomix.mechanisms.operators import at_least_float32


# EVOLVE-BLOCK-START
class Mechanism(MatrixMixer):
    """One filter of LAGS coefficients per head; older tokens than that are not read."""

    LAGS = 512
    declaration = Declaration(structure="toeplitz", data_dependent=False)

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.filter = nn.Parameter(torch.zeros(heads, self.LAGS))

    def initialise(self) -> None:
        self.filter.normal_(0.0, 1 / math.sqrt(self.LAGS))
        self.filter[:, 0] += 1

    def generators(self, x_BTD: Tensor) -> tuple[Tensor, ...]:
        tokens = x_BTD.shape[-2]
        taps = F.pad(self.filter, (0, max(0, tokens - self.LAGS)))[:, :tokens]
        return (taps.expand(*x_BTD.shape[:-2], self.heads, tokens),)

    def matrix(self, taps_BHT: Tensor) -> Tensor:
        position = torch.arange(taps_BHT.shape[-1], device=taps_BHT.device)
        lag = (position[:, None] - position[None, :]).clamp(min=0)
        return taps_BHT[..., lag]

    def multiply(self, generators: tuple[Tensor, ...], v_BHTP: Tensor) -> Tensor:
        taps, v = at_least_float32(generators[0]), at_least_float32(v_BHTP)
        length = 2 * v.shape[-2]
        spectrum = torch.fft.rfft(taps, length).unsqueeze(-1) * torch.fft.rfft(v, length, dim=-2)
        y: Tensor = torch.fft.irfft(spectrum, length, dim=-2)
        return y[..., : v.shape[-2], :]

    def flops(self, tokens: int) -> int:
        transforms = 5 * tokens * math.log2(2 * tokens) * (2 * self.width + self.heads)
        return round(transforms) + 6 * tokens * self.width


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: the convolution sum."""
    rows = []
    for t in range(x_BTD.shape[-2]):
        lags = min(t + 1, mechanism.LAGS)
        recent = v_BHTP[..., t + 1 - lags : t + 1, :].flip(-2)
        rows.append((mechanism.filter[:, None, :lags] @ recent).squeeze(-2))
    return torch.stack(rows, -2)
