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
    Measured("coefficient_dynamics forgetting, d16 L2 T16 V64 B16", 10, Work(563, 1302328, 1.31e+07), 48.6, 17.5),
    Measured("coefficient_dynamics gated_delta, d16 L2 T16 V64 B16", 10, Work(803, 1605308, 1.47e+07), 64.3, 22.6),
    Measured("coefficient_dynamics gla, d16 L2 T16 V64 B16", 10, Work(695, 3896426, 1.64e+07), 76.8, 41.7, 14.1, 64),
    Measured("coefficient_dynamics linear, d16 L2 T16 V64 B16", 10, Work(461, 1079820, 1.28e+07), 32.9, 14.2),
    Measured("coefficient_dynamics retnet, d16 L2 T16 V64 B16", 10, Work(491, 1096288, 1.28e+07), 36.1, 14.3),
    Measured("coefficient_dynamics softmax, d16 L2 T16 V64 B16", 10, Work(469, 1097228, 1.29e+07), 40.5, 14.8),
    Measured("coefficient_dynamics ssd, d16 L2 T16 V64 B16", 10, Work(627, 1267704, 1.3e+07), 47.4, 19),
    Measured("test_time_regression delta, d16 L2 T16 V64 B16", 10, Work(639, 1322224, 1.45e+07), 57.5, 19.3),
    Measured("test_time_regression local_linear, d16 L2 T16 V64 B16", 10, Work(755, 2866204, 2.23e+07), 72.8, 34.2),
    Measured("test_time_regression longhorn, d16 L2 T16 V64 B16", 10, Work(597, 1204464, 1.42e+07), 45.1, 17.8),
    Measured("test_time_regression mesa, d16 L2 T16 V64 B16", 10, Work(733, 2261146, 2.08e+07), 70.5, 29.2),
    Measured("test_time_regression parallax, d16 L2 T16 V64 B16", 10, Work(573, 1385960, 1.54e+07), 43.5, 17.1),
    Measured("test_time_regression qk_norm, d16 L2 T16 V64 B16", 10, Work(525, 1191952, 1.31e+07), 42.5, 16.3),
    Measured("test_time_regression softmax, d16 L2 T16 V64 B16", 10, Work(437, 1030120, 1.29e+07), 41.5, 14.4),
    Measured("matrix_mixer cauchy, d16 L2 T16 V64 B16", 10, Work(449, 990170, 1.07e+07), 37.8, 15.3),
    Measured("matrix_mixer dynamic_toeplitz, d16 L2 T16 V64 B16", 10, Work(359, 715790, 1.1e+07), 38, 14),
    Measured("matrix_mixer linear, d16 L2 T16 V64 B16", 10, Work(445, 1046026, 1.28e+07), 37.6, 15.1),
    Measured("matrix_mixer log_linear, d16 L2 T16 V64 B16", 10, Work(649, 1310444, 1.41e+07), 50.6, 18.2),
    Measured("matrix_mixer quasiseparable, d16 L2 T16 V64 B16", 10, Work(707, 1278994, 1.39e+07), 52.6, 18),
    Measured("matrix_mixer softmax, d16 L2 T16 V64 B16", 10, Work(425, 929290, 1.29e+07), 26.9, 13.6, 5.61, 44),
    Measured("matrix_mixer ssd, d16 L2 T16 V64 B16", 10, Work(653, 1250090, 1.38e+07), 46.1, 17.5),
    Measured("matrix_mixer toeplitz, d16 L2 T16 V64 B16", 10, Work(325, 704262, 1.09e+07), 32, 11.9),
    Measured("loop over time, d16 L2 T16 V64 B16", 10, Work(1331, 1864646, 1.29e+07), 50.9, 19.7, 7.08, 66),
    Measured("softmax, d16 L2 T16 V64 B16", 4, Work(425, 929290, 1.29e+07), 9.64, 6.49, 2.06, 34),
    Measured("loop over time, d16 L2 T16 V64 B16", 4, Work(1331, 1864646, 1.29e+07), 25.9, 13.2),
    Measured("softmax, d16 L2 T16 V64 B16", 20, Work(425, 929290, 1.29e+07), 63.7, 21.5),
    Measured("loop over time, d16 L2 T16 V64 B16", 20, Work(1331, 1864646, 1.29e+07), 132, 35.1),
    Measured("softmax, d32 L2 T32 V256 B16", 10, Work(425, 3939338, 1.14e+08), 60.5, 37.2),
    Measured("softmax, d32 L2 T64 V512 B16", 10, Work(425, 10039434, 3.07e+08), 88.5, 77.6, 69.4, 34),
    Measured("softmax, d64 L2 T64 V512 B16", 10, Work(425, 15734794, 9.11e+08), 162, 157, 151, 33),
    Measured("softmax, d64 L2 T128 V2048 B16", 10, Work(454, 47259917, 3.24e+09), 484, 482),
    Measured("softmax, d96 L2 T128 V16384 B64", 4, Work(2128, 835942727, 9.07e+10), 3.53e+03, 3.67e+03),
    Measured("softmax, d128 L2 T128 V16384 B64", 4, Work(2128, 949838023, 1.26e+11), 4.72e+03, 5.27e+03),
    Measured("softmax, d192 L1 T128 V16384 B64", 4, Work(1950, 1037212293, 1.79e+11), 5.62e+03, 6e+03),
)  # fmt: skip
"""AMD EPYC, torch 2.13.0, one thread; CPU seconds, the least of seven interleaved pairs (two at full width)."""

MACHINES = {
    "cpu": Machine(
        "step times measured on a core of an AMD EPYC",
        alone=Rates(5.13e-06, 8.22e-10, 2.53e-12),
        stacked=Rates(7.02e-06, 9.31e-10, 2.21e-12),
        compiled=Rates(4.81e-07, 3.05e-10, 1.23e-11),
        compiling=0.08,
    ),
    "cuda": Machine(
        "a GPU's data sheet, not measured",
        alone=Rates(2.5e-6, 0.0, 3.2e-15),
        stacked=Rates(2.5e-6, 0.0, 3.2e-15),
    ),
}
"""By torch's name of the device. A GPU's are the launches and FLOPs of `plan.clock`: assumed."""
