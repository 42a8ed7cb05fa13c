"""The tasks of the probes: targets against solvers, chance against guessers, the ceiling against a count."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from evomix.corpus.tokens import IGNORED
from evomix.probes import overwrite, regression, tasks
from evomix.probes.settings import ProbeTask
from evomix.streams import numpy_stream

SETTINGS: list[dict[str, Any]] = [
    {"task": "mqar", "lengths": [32], "items": 4},
    {"task": "overwrite", "lengths": [32], "items": 4},
    {"task": "noisy_recall", "lengths": [40], "items": 4, "noise": 0.4},
    {"task": "selective_copy", "lengths": [32], "items": 5},
    {"task": "parity", "lengths": [12]},
    {"task": "s3", "lengths": [12]},
    {"task": "regression", "lengths": [32], "items": 4},
]
NAMES = [str(setting["task"]) for setting in SETTINGS]
ROWS = 300


def drawn(setting: dict[str, Any], seed: int = 1, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    task = ProbeTask.model_validate(setting)
    return tasks.make(task).draw(numpy_stream(seed, "test"), rows, task.lengths[0])


def recall(row: list[int], first_value: int) -> dict[int, int]:
    """Return place → answer of every key whose binding was read before it, the latest one; blanks bind nothing."""
    bound: dict[int, int] = {}
    answers = {}
    for place, token in enumerate(row):
        if token in bound:
            answers[place] = bound[token]
        if place and first_value <= token:
            bound[row[place - 1]] = token
    return answers


def solve_mqar(row: list[int], _: ProbeTask) -> dict[int, int]:
    return {place: answer for place, answer in recall(row, 1 + 4 * 4).items() if place >= 2 * 4}


def solve_overwrite(row: list[int], _: ProbeTask) -> dict[int, int]:
    return {place: answer for place, answer in recall(row, 1 + 4 * 4).items() if place >= 4 * 4}


def solve_noisy(row: list[int], _: ProbeTask) -> dict[int, int]:
    return recall([-1 if token >= 32 else token for token in row], 16)


def solve_copy(row: list[int], setting: ProbeTask) -> dict[int, int]:
    found = [token for token in row if token < 16]
    return {len(row) - setting.items + place: token for place, token in enumerate(found)}


def solve_parity(row: list[int], _: ProbeTask) -> dict[int, int]:
    return {place: 2 + sum(row[: place + 1]) % 2 for place in range(len(row))}


def solve_s3(row: list[int], _: ProbeTask) -> dict[int, int]:
    elements = list(itertools.permutations("abc"))
    answers, things = {}, ("a", "b", "c")
    for place, token in enumerate(row):
        moves = ["abc".index(letter) for letter in elements[token]]
        inverse = [moves.index(letter) for letter in range(3)]  # where each thing comes to lie
        things = tuple(things[inverse[spot]] for spot in range(3))
        where = tuple("abc"[things.index(letter)] for letter in "abc")
        answers[place] = 6 + elements.index(where)
    return answers


def solve_regression(row: list[int], setting: ProbeTask) -> dict[int, int]:
    """Solve for w by least squares over the whole row; its pairs are the only source of w."""
    d = setting.items
    x = regression.corners(d)[row[0::2]]
    y = 2 * (np.array(row[1::2]) - 2**d) - d
    w = np.linalg.lstsq(x.astype(float), y.astype(float), rcond=None)[0]
    return {2 * pair: 2**d + (round(float(x[pair] @ w)) + d) // 2 for pair in range(regression.SEEN, len(x))}


SOLVERS: dict[str, Callable[[list[int], ProbeTask], dict[int, int]]] = {
    "mqar": solve_mqar,
    "overwrite": solve_overwrite,
    "noisy_recall": solve_noisy,
    "selective_copy": solve_copy,
    "parity": solve_parity,
    "s3": solve_s3,
    "regression": solve_regression,
}


@pytest.mark.parametrize("setting", SETTINGS, ids=NAMES)
def test_targets_are_what_an_independent_solver_reads_off_the_inputs(setting: dict[str, Any]) -> None:
    inputs, targets = drawn(setting)
    for row, asked in zip(inputs.tolist(), targets.tolist(), strict=True):
        expected = {place: target for place, target in enumerate(asked) if target != IGNORED}
        assert expected
        assert SOLVERS[setting["task"]](row, ProbeTask.model_validate(setting)) == expected


@pytest.mark.parametrize("setting", SETTINGS, ids=NAMES)
def test_draws_are_a_pure_function_of_the_stream_inside_the_vocabulary(setting: dict[str, Any]) -> None:
    first, again, other = drawn(setting), drawn(setting), drawn(setting, seed=2)
    assert all((ours == theirs).all() for ours, theirs in zip(first, again, strict=True))
    assert (first[0] != other[0]).any()
    vocabulary = tasks.make(ProbeTask.model_validate(setting)).vocabulary
    used = np.concatenate([first[0].ravel(), first[1][first[1] != IGNORED]])
    assert used.min() >= 0
    assert used.max() < vocabulary


def guesses(setting: dict[str, Any], row: list[int], stream: np.random.Generator) -> int:
    """Return the answer of a guesser who knows which answers are possible and nothing of where they belong."""
    kind = setting["task"]
    if kind in ("mqar", "overwrite"):
        return int(stream.choice(sorted({token for token in row if token > 4 * setting["items"]})))
    if kind == "noisy_recall":
        return int(stream.choice(sorted({token for token in row if 16 <= token < 32})))
    if kind == "selective_copy":
        return int(stream.choice([token for token in row if token < 16]))
    if kind == "regression":
        return 2 ** setting["items"] + setting["items"] // 2
    return int(stream.integers(2)) + 2 if kind == "parity" else int(stream.integers(6)) + 6


@pytest.mark.parametrize("setting", SETTINGS, ids=NAMES)
def test_chance_is_what_a_guesser_reaches(setting: dict[str, Any]) -> None:
    inputs, targets = drawn(setting, rows=2_000)
    stream = numpy_stream(3, "guesser")
    rows = [
        (row, [answer for answer in asked if answer != IGNORED])
        for row, asked in zip(inputs.tolist(), targets.tolist(), strict=True)
    ]
    right = [guesses(setting, row, stream) == answer for row, answers in rows for answer in answers]
    chance = tasks.make(ProbeTask.model_validate(setting)).chance
    error = (chance * (1 - chance) / 2_000) ** 0.5  # at most: answers of one row hang together
    assert np.mean(right) == pytest.approx(chance, abs=4 * error)


def test_overwritten_values_are_never_the_answer_and_both_bindings_are_there() -> None:
    inputs, targets = drawn(SETTINGS[1])
    for row, asked in zip(inputs.tolist(), targets.tolist(), strict=True):
        keys = Counter(row[0:16:2])
        assert set(keys.values()) == {2}
        for place, answer in enumerate(asked):
            if answer != IGNORED:
                old, new = (row[at + 1] for at in range(0, 16, 2) if row[at] == row[place])
                assert answer == new != old
    assert overwrite.make(ProbeTask.model_validate(SETTINGS[1])).chance == 1 / 8


def test_the_ceiling_of_regression_is_the_bayes_answer() -> None:
    """An independent count over all w, row by row, on other sequences."""
    task = tasks.make(ProbeTask.model_validate(SETTINGS[6]))
    points = regression.corners(4)
    right = []
    for row in drawn(SETTINGS[6], seed=9, rows=200)[0].tolist():
        x, y = points[row[0::2]], 2 * (np.array(row[1::2]) - 16) - 4
        for pair in range(regression.SEEN, len(x)):
            agree = [w for w in points if (x[:pair] @ w == y[:pair]).all()]
            votes = Counter(int(x[pair] @ w) for w in agree)
            right.append(votes.most_common(1)[0][1] / len(agree))
    assert task.ceiling == pytest.approx(np.mean(right), abs=0.01)
    assert task.ceiling < 1
