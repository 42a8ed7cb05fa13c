"""Synthetic training summaries on disk, for the tests of the statistics room."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from evomix.artifacts import write_json

FRAMEWORKS = ["coefficient_dynamics", "test_time_regression", "matrix_mixer"]
SIZES = {"0.5M": 500_000, "1M": 1_000_000, "2M": 2_000_000, "4M": 4_000_000}


def write_summary(
    folder: Path, framework: str, variant: str, size: str, seed: int, loss: float | None, flops: float = 100.0
) -> Path:
    """Write one training summary as the engine does; a loss of None is a diverged run."""
    path = folder / framework / variant / size / f"seed_{seed}" / "summary.json"
    parameters = {"non_embedding": SIZES[size], "embedding": 1000, "total": SIZES[size] + 1000, "mechanism": 10}
    content = {
        "status": "finished" if loss is not None else "diverged", "reason": None, "loss": loss,
        "bits_per_byte": None if loss is None else loss / 3, "steps": 100, "parameters": parameters,
        "flops_per_token": flops, "loss_at_start": 9.0, "steps_to_90": 50, "spec_digest": "0",
        "framework": framework, "variant": variant, "size": size, "seed": seed,
    }  # fmt: skip
    write_json(path, "training", content)
    return path


def write_study(
    folder: Path,
    loss: Callable[[str, str, str, int], float | None],
    seeds: Iterable[int],
    frameworks: Iterable[str] = FRAMEWORKS,
) -> list[Path]:
    """Write the summaries of a study whose losses come from `loss(framework, variant, size, seed)`."""
    return [
        write_summary(folder, framework, variant, size, seed, loss(framework, variant, size, seed))
        for framework in frameworks
        for variant in ("standard", "evolved")
        for size in SIZES
        for seed in seeds
    ]


def noisy_loss(
    gains: dict[str, float], diverged: Iterable[tuple[str, str, int]] = (), noise: float = 0.003, rng_seed: int = 0
) -> Callable[[str, str, str, int], float | None]:
    """Return losses on a power law in N with seed noise half shared by the arms, minus a gain for evolved variants."""
    gone = set(diverged)

    def loss(framework: str, variant: str, size: str, seed: int) -> float | None:
        if (framework, variant, seed) in gone:
            return None
        shared = np.random.default_rng([rng_seed, seed]).normal(0, noise)
        own = np.random.default_rng([rng_seed, seed, *map(ord, framework + variant + size)]).normal(0, noise)
        gain = gains.get(framework, 0.0) if variant == "evolved" else 0.0
        return float(1.0 + 30 * SIZES[size] ** -0.3 + shared + own - gain)

    return loss
