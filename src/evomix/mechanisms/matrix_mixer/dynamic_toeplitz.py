"""Causal Toeplitz mixer with a data-dependent filter: the coefficient of lag l is read from token l.

    M[t, i] = h_{t−i},   h_l = (w_hᵀ x_l + c_h) / √(1 + l)

Source: Hwang et al. 2024 (arXiv 2407.09941). Lag l ≤ t needs token l ≤ t only, so the one-sided form is causal when lag
0 reads token 0; published code shifts this by one and is not. Blocks depend on earlier tokens (not sequence aligned).
"""

import math

import torch
from torch import Tensor, nn

from evomix.mechanisms.matrix_mixer.contract import Declaration, MatrixMixer
from evomix.mechanisms.operators import at_least_float32


# EVOLVE-BLOCK-START
class Mechanism(MatrixMixer):
    """One linear map from tokens to filter coefficients; product by FFT of length 2T."""

    declaration = Declaration(structure="toeplitz", sequence_aligned=False)

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.coefficient = nn.Linear(width, heads)

    def generators(self, x_BTD: Tensor) -> tuple[Tensor, ...]:
        lag = torch.arange(x_BTD.shape[-2], device=x_BTD.device, dtype=x_BTD.dtype)
        return (self.coefficient(x_BTD).transpose(-2, -1) * torch.rsqrt(1 + lag),)

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
        return 2 * tokens * self.width * self.heads + round(transforms) + 6 * tokens * self.width


# EVOLVE-BLOCK-END


def reference(mechanism: Mechanism, x_BTD: Tensor, v_BHTP: Tensor) -> Tensor:
    """Ground truth: the convolution sum with the filter written out."""
    taps = mechanism.coefficient(x_BTD).transpose(-2, -1)
    rows = []
    for t in range(x_BTD.shape[-2]):
        terms = [taps[..., lag, None] / math.sqrt(1 + lag) * v_BHTP[..., t - lag, :] for lag in range(t + 1)]
        rows.append(torch.stack(terms).sum(0))
    return torch.stack(rows, -2)
