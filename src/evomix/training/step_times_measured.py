"""Measured step times, by which runs are carried out alone, stacked or compiled (`step_times` says how).

Made by `python tests/benchmarks/step_times.py`, which also prints the rates that fit the rows; a test fits them again.
"""

from __future__ import annotations

from dataclasses import dataclass

from evomix.training.step_times import Machine, Rates, Work


@dataclass(frozen=True)
class Measured:
    """One step of `runs` runs: milliseconds alone (one after another), stacked, compiled; seconds of compiling."""

    name: str
    runs: int
    work: Work
    alone: float
    stacked: float
    compiled: float | None = None
    compiling: float | None = None


ROWS = (
    Measured("coefficient_dynamics forgetting, d16 L2 T16 V64 B16", 10, Work(563, 1302328, 1.31e+07), 30.3, 12.5),
    Measured("coefficient_dynamics gated_delta, d16 L2 T16 V64 B16", 10, Work(803, 1605308, 1.47e+07), 43.3, 17.2),
    Measured("coefficient_dynamics gla, d16 L2 T16 V64 B16", 10, Work(695, 3896426, 1.64e+07), 67.7, 36.4, 12.4, 54),
    Measured("coefficient_dynamics linear, d16 L2 T16 V64 B16", 10, Work(461, 1079820, 1.28e+07), 26.8, 11.6),
    Measured("coefficient_dynamics retnet, d16 L2 T16 V64 B16", 10, Work(491, 1096288, 1.28e+07), 28.8, 10.4),
    Measured("coefficient_dynamics softmax, d16 L2 T16 V64 B16", 10, Work(469, 1097228, 1.29e+07), 24.2, 10.7),
    Measured("coefficient_dynamics ssd, d16 L2 T16 V64 B16", 10, Work(627, 1267704, 1.3e+07), 35.6, 13.6),
    Measured("test_time_regression delta, d16 L2 T16 V64 B16", 10, Work(639, 1322224, 1.45e+07), 34.7, 14.8),
    Measured("test_time_regression local_linear, d16 L2 T16 V64 B16", 10, Work(755, 2866204, 2.23e+07), 56.5, 28.6),
    Measured("test_time_regression longhorn, d16 L2 T16 V64 B16", 10, Work(597, 1204464, 1.42e+07), 38.1, 13.8),
    Measured("test_time_regression mesa, d16 L2 T16 V64 B16", 10, Work(733, 2261146, 2.08e+07), 62.2, 27.4),
    Measured("test_time_regression parallax, d16 L2 T16 V64 B16", 10, Work(573, 1385960, 1.54e+07), 35.6, 13.8),
    Measured("test_time_regression qk_norm, d16 L2 T16 V64 B16", 10, Work(525, 1191952, 1.31e+07), 35.4, 12.3),
    Measured("test_time_regression softmax, d16 L2 T16 V64 B16", 10, Work(437, 1030120, 1.29e+07), 28.8, 10.9),
    Measured("matrix_mixer cauchy, d16 L2 T16 V64 B16", 10, Work(449, 990170, 1.07e+07), 29.8, 12.1),
    Measured("matrix_mixer dynamic_toeplitz, d16 L2 T16 V64 B16", 10, Work(359, 715790, 1.1e+07), 29.3, 10.3),
    Measured("matrix_mixer linear, d16 L2 T16 V64 B16", 10, Work(445, 1046026, 1.28e+07), 31.2, 12.1),
    Measured("matrix_mixer log_linear, d16 L2 T16 V64 B16", 10, Work(649, 1310444, 1.41e+07), 45.1, 15.3),
    Measured("matrix_mixer quasiseparable, d16 L2 T16 V64 B16", 10, Work(707, 1278994, 1.39e+07), 43.2, 15.4),
    Measured("matrix_mixer softmax, d16 L2 T16 V64 B16", 10, Work(425, 929290, 1.29e+07), 28.3, 10.8, 4.83, 39),
    Measured("matrix_mixer ssd, d16 L2 T16 V64 B16", 10, Work(653, 1250090, 1.38e+07), 33.8, 13.8),
    Measured("matrix_mixer toeplitz, d16 L2 T16 V64 B16", 10, Work(325, 704262, 1.09e+07), 19.7, 7.87),
    Measured("loop over time, d16 L2 T16 V64 B16", 10, Work(1331, 1864646, 1.29e+07), 50.6, 16.8, 6.44, 69),
    Measured("softmax, d16 L2 T16 V64 B16", 4, Work(425, 929290, 1.29e+07), 8.15, 4.8, 2.06, 34),
    Measured("loop over time, d16 L2 T16 V64 B16", 4, Work(1331, 1864646, 1.29e+07), 18.7, 9.35),
    Measured("softmax, d16 L2 T16 V64 B16", 20, Work(425, 929290, 1.29e+07), 40, 14.6),
    Measured("loop over time, d16 L2 T16 V64 B16", 20, Work(1331, 1864646, 1.29e+07), 85.9, 25.6),
    Measured("softmax, d32 L2 T32 V256 B16", 10, Work(425, 3939338, 1.14e+08), 41.8, 32.3),
    Measured("softmax, d32 L2 T64 V512 B16", 10, Work(425, 10039434, 3.07e+08), 88.3, 74.9, 69.4, 34),
    Measured("softmax, d64 L2 T64 V512 B16", 10, Work(425, 15734794, 9.11e+08), 167, 165, 151, 33),
    Measured("softmax, d64 L2 T128 V2048 B16", 10, Work(454, 47259917, 3.24e+09), 423, 447),
    Measured("softmax, d96 L2 T128 V16384 B64", 4, Work(2128, 835942727, 9.07e+10), 3.53e+03, 3.67e+03),
    Measured("softmax, d128 L2 T128 V16384 B64", 4, Work(2128, 949838023, 1.26e+11), 4.72e+03, 5.27e+03),
    Measured("softmax, d192 L1 T128 V16384 B64", 4, Work(1950, 1037212293, 1.79e+11), 5.62e+03, 6e+03),
)  # fmt: skip
"""AMD EPYC, torch 2.13.0, one thread; CPU seconds, the least of 7 to 15 interleaved pairs (two at full width)."""

GPU_ROWS = (
    Measured("softmax, d72 L8 T128 V16384 B64, H100", 10, Work(1807, 1375999583, 9.01e10), 68.4, 48.4),
    Measured("softmax, d96 L9 T128 V16384 B64, H100", 10, Work(2011, 1724692545, 1.38e11), 81.2, 58.8),
    Measured("softmax, d144 L8 T128 V16384 B64, H100", 10, Work(1807, 2085278207, 2.29e11), 89.3, 70.9),
    Measured("softmax, d192 L9 T128 V16384 B64, H100", 10, Work(2011, 2787575649, 3.73e11), 110.3, 92.4),
    Measured("softmax, d128 L6 T128 V16384 B64, H200", 10, Work(1399, 1533655067, 1.71e11), 58.2, 46.5, 14.3),
    Measured("softmax, d128 L6 T128 V16384 B64, H200", 1, Work(1399, 1533655067, 1.71e11), 5.82, 5.82, 2.3),
)  # fmt: skip
"""In bfloat16, torch 2.11.0, captured as graphs; how they were taken: docs/engine.md. Alone is R times one run."""

MACHINES = {
    "cpu": Machine(
        "step times measured on a core of an AMD EPYC",
        alone=Rates(3.61e-06, 7.87e-10, 2.7e-12),
        stacked=Rates(3.84e-06, 7.89e-10, 3.44e-12),
        compiled=Rates(6.85e-07, 2.46e-10, 1.35e-11),
        compiling=0.079,
    ),
    "cuda": Machine(
        "step times measured on an H100 and an H200",
        alone=Rates(1.69e-06, 2.74e-12, 0.0),
        stacked=Rates(1.69e-06, 3.24e-12, 0.0),
        compiled=Rates(6.9e-07, 8.7e-13, 0.0),
        compiling=0.06,
    ),
}
"""By torch's name of the device. A GPU's ways are all captured as graphs; compiling there was measured with several
threads only (29 to 33 s of wall time for the last rows)."""
