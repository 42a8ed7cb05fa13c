"""One choice for both variants unless their trials differ: the test's level and power, and what the choice does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from evomix.artifacts import digest_file, read_json, write_json
from evomix.errors import UserError
from evomix.settings import Tuning
from evomix.streams import numpy_stream
from evomix.tuning import choice, sharing
from evomix.tuning.design import design, points
from evomix.tuning.search_space import coordinates, dimensions

Array = npt.NDArray[np.float64]
ALL = (0, 1, 2, 3)
TUNING = Tuning(size="base", trials=50, steps=100)
AT = coordinates(dimensions(TUNING), points(TUNING))


def test_equal_variants_are_seldom_told_apart_whatever_the_noise() -> None:
    """Noise that grows fifty-fold along the learning rate, with heavy tails, and a constant gain between them."""
    stream = numpy_stream(1, "level")
    scatter = 0.005 * np.exp(2 * AT[:, 0])
    found = [sharing.difference_p(AT, 0.02 + scatter * stream.standard_t(3, size=50), ALL, stream) for _ in range(600)]
    assert np.mean(np.array(found) <= 0.05) < 0.09
    assert np.mean(np.array(found) <= sharing.LEVEL) < 0.03


@pytest.mark.parametrize(("moved", "least", "most"), [(0.0, 0.0, 0.06), (0.1, 0.3, 1.0), (0.3, 0.98, 1.0)])
def test_another_best_learning_rate_is_seen_long_before_it_costs(moved: float, least: float, most: float) -> None:
    """A tenth of a coordinate costs .0003 nats; losses as in the simulated studies."""
    stream = numpy_stream(2, "power")
    shape = 0.026 * ((AT[:, 0] - moved) ** 2 - AT[:, 0] ** 2)
    found = [sharing.difference_p(AT, shape + stream.normal(0, 0.005, size=50), ALL, stream) for _ in range(100)]
    assert least <= np.mean(np.array(found) <= sharing.LEVEL) <= most


def test_nothing_to_tell_apart_is_p_one() -> None:
    stream = numpy_stream(3, "none")
    assert sharing.difference_p(AT, np.full(50, 0.1), ALL, stream) == 1
    assert sharing.difference_p(AT, stream.normal(size=50), (), stream) == 1
    assert sharing.difference_p(AT[:4], stream.normal(size=4), ALL, stream) == 1, "four trials fit any difference"
    assert sharing.difference_p(AT[:5], stream.normal(size=5), ALL, stream) > 0.05


def tune(folder: Path, variant: str, best_rate: float, reference: Path | None = None, **loss: float | None) -> Any:
    """Choose for a variant whose best learning rate lies at coordinate `best_rate`; `loss` replaces single trials."""
    design(TUNING, folder / "design.json")
    noise = numpy_stream(4, variant).normal(0, 0.005, size=50)
    values: dict[int, float | None] = dict(enumerate(1.5 + 0.026 * (AT[:, 0] - best_rate) ** 2 + noise))
    values |= {int(name.removeprefix("trial_")): value for name, value in loss.items()}
    content = read_json(folder / "design.json", "tuning_design")
    spare = {trial["number"]: 1.6 for trial in content["replacements"]}
    trials = [
        {
            "number": number, "loss": value, "spec_digest": "0", "steps": 100, "rungs": {},
            "status": "finished" if value is not None else "diverged",
            "reason": None if value is not None else "loss was not finite",
        }
        for number, value in (values | spare).items()
    ]  # fmt: skip
    owner = {"framework": "matrix_mixer", "variant": variant, "size": "base", "worker": 0, "trials": trials}
    worker = folder / variant / "worker_0.json"
    write_json(worker, "tuning_worker", owner | {"design": digest_file(folder / "design.json")})
    output = folder / variant / "best.json"
    choice.choose(TUNING, folder / "design.json", [worker], output, policy="joint", reference=reference)
    return read_json(output, "tuning")


def test_a_variant_takes_the_references_choice_unless_it_wants_another(tmp_path: Path) -> None:
    standard = tune(tmp_path, "standard", 0.1)
    assert standard["reference"] is None
    reference = tmp_path / "standard/best.json"
    copy = tune(tmp_path, "copy1", 0.1, reference)
    assert copy["reference"]["adopted"]
    assert copy["reference"]["p"] > sharing.LEVEL == copy["reference"]["level"]
    assert copy["chosen"] == standard["chosen"]
    assert copy["chosen"] != copy["reference"]["own_choice"]
    assert copy["expected_regret"] >= 0
    other = tune(tmp_path, "evolved", 0.8, reference)
    assert not other["reference"]["adopted"]
    assert other["chosen"] == other["reference"]["own_choice"]
    assert other["chosen"]["learning_rate"] > 1.3 * standard["chosen"]["learning_rate"]


def test_a_choice_beside_a_failed_trial_is_not_taken(tmp_path: Path) -> None:
    standard = tune(tmp_path, "standard", 0.1)
    place = coordinates(dimensions(TUNING), [standard["chosen"]])[0]
    weights = np.array([3.0, 1.0, 1.0, 100.0])
    nearest = int(((weights * (AT - place)) ** 2).sum(axis=1).argmin())
    failed: dict[str, float | None] = {f"trial_{nearest}": None}
    fragile = tune(tmp_path, "evolved", 0.1, tmp_path / "standard/best.json", **failed)
    assert fragile["reference"]["pairs"] == 49
    assert not fragile["reference"]["adopted"]


def test_a_reference_of_another_design_is_refused(tmp_path: Path) -> None:
    tune(tmp_path / "a", "standard", 0.1)
    best = tmp_path / "a/standard/best.json"
    write_json(best, "tuning", read_json(best, "tuning") | {"design": "other"})
    with pytest.raises(UserError, match=r"standard/best\.json was made from another design"):
        tune(tmp_path / "a", "evolved", 0.1, best)
    assert not (tmp_path / "a/evolved/best.json").exists()


def test_trials_are_paired_by_number(tmp_path: Path) -> None:
    tune(tmp_path, "standard", 0.1)
    table = tmp_path / "standard/trials.parquet"
    frame = pd.read_parquet(table)
    before = tune(tmp_path, "evolved", 0.1, tmp_path / "standard/best.json")
    frame.iloc[::-1].to_parquet(table)
    assert tune(tmp_path, "evolved", 0.1, tmp_path / "standard/best.json") == before
