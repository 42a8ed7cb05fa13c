"""Ablation: what evolved splits into edits that stand alone, and each is worth what it changes, exactly."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablation_study import BUDGET, edited, standard
from evomix.ablation import effects, trainings
from evomix.ablation.edits import Difference
from evomix.ablation.section import AblationSection
from evomix.ablation.split import split
from evomix.artifacts import read_json, write_json
from evomix.commands.training import train_worker
from evomix.evolution.identity import normalised
from evomix.gate import syntax
from evomix.gate.gate import gate
from evomix.mechanisms import library
from evomix.settings import FRAMEWORKS, Framework
from evomix.specs import RunSpec, write_spec
from evomix.training import engine
from evomix.training.contained import RunError, train_all_contained
from training_study import make_spec, write_corpus

MIXER: Framework = "matrix_mixer"
MANY = 99


def plain(source: str) -> str:
    """Return a program without what computes nothing: comments, docstrings, `flops`, annotations."""
    tree = ast.parse(source[source.index("# EVOLVE-BLOCK-START") : source.index("# EVOLVE-BLOCK-END")])
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return normalised(ast.unparse(tree))


def titles(reference: str, candidate: str, framework: Framework = MIXER, most: int = MANY) -> list[str]:
    difference = Difference(reference, candidate, framework, most)
    return [difference.title(edit) for edit in range(len(difference.edits))]


def change(source: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


QUERY = "query = self.split_heads(self.query(x_BTD)) / math.sqrt(self.head_width)"
KEY = "key = self.split_heads(self.key(x_BTD))"
INERT = (KEY, f"{KEY}\n        unused = key.exp()")
LOUD = ("return torch.softmax(logits, -1)", "return 40.0 * torch.softmax(logits, -1)")
SHARP = (QUERY, f"{QUERY}\n        query = query * 1.5")


@given(framework=st.sampled_from(FRAMEWORKS), seed=st.integers(0, 2**20), count=st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_edits_add_up_and_each_stands_alone(framework: Framework, seed: int, count: int) -> None:
    """All edits taken give the candidate, none the reference; one left out or alone passes the gate's syntax."""
    reference, candidate = standard(framework), edited(framework, seed, count)
    difference = Difference(reference, candidate, framework, MANY)
    every = set(range(len(difference.edits)))
    assert plain(difference.source(every, "new")) == plain(candidate)
    assert plain(difference.source((), "old")) == plain(reference)
    for edit in every:
        for taken in (every - {edit}, {edit}):
            assert syntax.check(difference.source(taken), framework) == []
    assert sorted(number for edit in difference.edits for number in edit) == list(range(len(difference.hunks)))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_members_of_the_gallery_split_as_well(framework: Framework) -> None:
    """`validation.candidate` may name one: its parts stand alone or are one edit, and the gate can read each file."""
    for path in library.gallery(framework).values():
        difference = Difference(standard(framework), path.read_text(encoding="utf-8"), framework, MANY)
        every = set(range(len(difference.edits)))
        assert bool(every) == (path.stem != "softmax")
        for edit in every:
            assert all(syntax.check(difference.source(taken), framework) == [] for taken in (every - {edit}, {edit}))


def test_independent_edits_are_apart_and_dependent_ones_together() -> None:
    gate_and_use = (
        ("self.key = nn.Linear(width, width, bias=False)", "self.key = nn.Linear(width, width, bias=False)\n"
         "        self.scale = nn.Parameter(torch.ones(heads, 1, 1))\n        self.unused = nn.Linear(width, width)"),
        (KEY, f"{KEY} * self.scale"),
    )  # fmt: skip
    found = titles(standard(MIXER), change(standard(MIXER), *gate_and_use, SHARP, LOUD))
    assert found == [
        "adds self.scale; changes key in generators",
        "adds self.unused",
        "changes query in generators",
        "changes matrix",
    ]


def test_an_argument_and_what_is_passed_are_one_edit() -> None:
    candidate = change(
        standard(MIXER),
        ("return query, key", "return query, key, key.mean(-1)"),
        ("query_BHTN: Tensor, key_BHTN: Tensor", "q: Tensor, k: Tensor, bias: Tensor"),
        ("query_BHTN @ key_BHTN.mT", "q @ k.mT + bias.unsqueeze(-2)"),
        SHARP,
    )
    assert titles(standard(MIXER), candidate) == [
        "changes query in generators",
        "changes generators, matrix",
    ]


def test_a_renamed_variable_is_one_edit_that_changes_nothing() -> None:
    candidate = change(standard(MIXER), (KEY, KEY.replace("key =", "k =")), ("return query, key", "return query, k"))
    assert len(titles(standard(MIXER), candidate)) == 1


def test_the_limit_merges_neighbours_and_drops_none() -> None:
    candidate = change(standard(MIXER), INERT, SHARP, LOUD)
    assert len(titles(standard(MIXER), candidate)) == 3
    found = Difference(standard(MIXER), candidate, MIXER, 2)
    assert sorted(map(len, found.edits)) == [1, 2]
    assert plain(found.source({0, 1})) == plain(candidate)


def test_what_computes_nothing_is_no_edit() -> None:
    """Comments, formatting, annotations, stated costs and mere claims of the declaration."""
    candidate = change(
        standard(MIXER),
        ("row_stochastic=True", "row_stochastic=False"),
        ("projections = 4 *", "projections = 5 *"),
        (QUERY, f"{QUERY}  # the queries"),
        ("def generators(self, x_BTD: Tensor) -> tuple[Tensor, ...]:", "def generators(self, x_BTD):"),
    )
    found = Difference(standard(MIXER), candidate, MIXER, MANY)
    assert found.edits == []
    assert found.claims_differ


def test_an_estimator_that_is_executed_is_an_edit() -> None:
    framework: Framework = "test_time_regression"
    candidate = change(
        standard(framework),
        ('estimator="local_constant"', 'estimator="ridge"'),
        (
            "    def flops",
            "    def penalty(self, x_BTD: Tensor) -> Tensor:\n        return torch.ones(1)\n\n    def flops",
        ),
        ("bandwidth = math.sqrt(self.head_width)", "bandwidth = 2.0"),
    )
    assert titles(standard(framework), candidate, framework) == [
        "changes bandwidth in log_kernel",
        "adds penalty; changes estimator",
    ]


def split_files(folder: Path, reference: str, candidate: str, **options: Any) -> dict[str, Any]:
    for name, source in (("standard", reference), ("evolved", candidate)):
        (folder / f"{name}.py").write_text(source)
    rules = {"most": MANY, "add_alone": True, "gate": lambda path: {"accepted": True, "checks": []}} | options
    split(folder / "standard.py", folder / "evolved.py", MIXER, folder / "variants", folder / "edits.json", **rules)
    return read_json(folder / "edits.json", "edits")


def test_keywords_in_another_order_are_the_same_program(tmp_path: Path) -> None:
    reference = change(standard(MIXER), ("torch.softmax(logits, -1)", "torch.softmax(input=logits, dim=-1)"))
    candidate = change(reference, ("input=logits, dim=-1", "dim=-1, input=logits"), SHARP)
    found = split_files(tmp_path, reference, candidate)["edits"]
    assert [edit["reverted"]["status"] for edit in found] == ["separate", "same_program"]
    assert [edit["added"]["status"] for edit in found] == ["separate", "same_program"]
    assert not (tmp_path / "variants/without_2.py").exists()


def test_the_real_gate_refuses_what_cannot_be_separated(tmp_path: Path) -> None:
    """Without the mask the future leaks; the edit that masks by hand cannot be taken back alone."""
    candidate = change(
        standard(MIXER),
        ("forbid_future(query_BHTN @ key_BHTN.mT)", "query_BHTN @ key_BHTN.mT"),
        ("return torch.softmax(logits, -1)", "return torch.softmax(forbid_future(logits), -1)"),
    )

    def real(path: Path) -> dict[str, Any]:
        return gate(path, MIXER) if path.stem == "without_2" else {"accepted": True, "checks": []}

    found = split_files(tmp_path, standard(MIXER), candidate, add_alone=False, gate=real)
    first, second = (edit["reverted"] for edit in found["edits"])
    assert first["status"] == "separate"
    assert second["status"] == "refused"
    assert second["reason"].startswith("not separable: ")
    assert "caus" in second["reason"]
    record = read_json(tmp_path / "variants/without_2.gate.json", "gate")
    assert not record["accepted"]


def test_a_single_edit_taken_back_is_the_reference_and_needs_no_gate(tmp_path: Path) -> None:
    def never(path: Path) -> dict[str, Any]:
        raise AssertionError(path)

    candidate = change(standard(MIXER), ("row_stochastic=True", "row_stochastic=False"), LOUD)
    (edit,) = split_files(tmp_path, standard(MIXER), candidate, gate=never)["edits"]
    assert edit["reverted"]["status"] == edit["added"]["status"] == "separate"
    assert plain((tmp_path / "variants/without_1.py").read_text()) == plain(standard(MIXER))
    assert plain((tmp_path / "variants/only_1.py").read_text()) == plain(candidate)


def test_claims_and_fast_forms_follow_the_program(tmp_path: Path) -> None:
    """A claim that holds with all edits only, or a fast form of all of them, does not make an edit inseparable."""
    fast = "def multiply(self, generators, v_BHTP):\n        return self.assemble(generators) @ v_BHTP\n\n    def flops"
    claim = ("row_stochastic=True", "row_stochastic=False")
    candidate = change(standard(MIXER), claim, LOUD, SHARP, ("def flops", fast))
    seen = []

    def picky(path: Path) -> dict[str, Any]:
        source = path.read_text()
        seen.append(source)
        accepted = "row_stochastic=True" in source and "def multiply" not in source
        check = {"check": "certificate", "passed": accepted, "hint": "no", "value": 1}
        return {"accepted": accepted, "checks": [check]}

    found = split_files(tmp_path, standard(MIXER), candidate, add_alone=False, gate=picky)
    assert [edit["reverted"]["status"] for edit in found["edits"]] == ["separate"] * 3
    assert any("def multiply" in source and "row_stochastic=False" in source for source in seen)


def measured(folder: Path, summaries: list[Path], section: AblationSection) -> dict[str, Any]:
    effects.measure(folder / "edits.json", [folder / "worker_0.json"], summaries, section, folder / "ablation.json")
    return read_json(folder / "ablation.json", "ablation")


@pytest.fixture(scope="module")
def stats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


SEEDS = [3, 4, 5, 6]


def run_spec(stats: Path, mechanism: Path, seed: int) -> RunSpec:
    changes = {"framework": MIXER, "variant": mechanism.stem, "seed": seed, "steps": 20, "batch_size": 2}
    return make_spec(stats, mechanism, **changes, width=8, layers=1, rows=8)


def test_inert_is_zero_to_the_bit_and_a_large_effect_has_its_sign(stats: Path, tmp_path: Path) -> None:
    """From split to effects with real trainings in the sandbox: one edit is dead code, one wrecks the model.

    Then a run that was lost is trained again, alone, and everything is as it was.
    """
    split_files(tmp_path, standard(MIXER), change(standard(MIXER), INERT, LOUD))
    summaries = []
    for variant in ("standard", "evolved"):
        for seed in SEEDS:
            folder = tmp_path / "training" / variant / f"seed_{seed}"
            engine.train(run_spec(stats, tmp_path / f"{variant}.py", seed), folder)
            summaries.append(folder / "summary.json")
    trained: list[int] = []

    def train(runs: Any) -> list[dict[str, Any]]:
        trained.append(sum(not (folder / "summary.json").exists() for _, folder in runs))
        return train_all_contained(runs, stack=False)

    def work() -> dict[str, Any]:
        trainings.train(
            tmp_path / "edits.json", tmp_path / "variants", SEEDS, 0, 1, tmp_path / "worker_0.json",
            specify=lambda kind, mechanism, seed: run_spec(stats, mechanism, seed), train=train,
        )  # fmt: skip
        section = AblationSection(size="tiny", seeds=SEEDS, policy="joint", preset="test", budget=BUDGET)
        return measured(tmp_path, summaries, section)

    result = work()
    inert, loud = result["edits"]
    for kind in ("reverted", "added"):
        effect = inert[kind]["effect"]
        assert (effect["mean"], effect["low"], effect["high"], effect["p"], effect["n"]) == (0, 0, 0, 1, 4)
        assert loud[kind]["effect"]["high"] < 0
        assert loud[kind]["effect"]["holm_p"] < 0.05
    assert "1 worth exactly nothing" in result["summary"]
    (tmp_path / "runs/without_2/seed_5/summary.json").unlink()
    assert work() == result
    assert trained[0] == 16
    assert sum(trained[1:]) == 1


def test_runs_that_are_not_stacked_equal_runs_alone(stats: Path, tmp_path: Path) -> None:
    (tmp_path / "standard.py").write_text(standard(MIXER))
    specs = [run_spec(stats, tmp_path / "standard.py", seed) for seed in SEEDS]
    folders = [tmp_path / f"run_{spec.seed}" for spec in specs]
    for spec, folder in zip(specs, folders, strict=True):
        write_spec(folder / "spec.json", spec)
    train_worker(folders, stack=False)
    for spec, folder in zip(specs, folders, strict=True):
        engine.train(spec, tmp_path / "alone")
        assert (folder / "summary.json").read_bytes() == (tmp_path / "alone/summary.json").read_bytes()


def test_a_failed_run_is_named_and_finished_ones_are_kept(tmp_path: Path) -> None:
    """Killed in the middle, a worker asks for the missing runs alone; a run that fails again is a result."""
    split_files(tmp_path, standard(MIXER), change(standard(MIXER), LOUD, SHARP), add_alone=False)
    asked: list[list[tuple[str, int]]] = []

    def train(runs: Any) -> list[dict[str, Any]]:
        names = [(spec.variant, spec.seed) for spec, _ in runs]
        asked.append(names)
        if ("without_2", 4) in names:
            raise RunError("it raised")
        return [{"status": "finished", "reason": None, "loss": 2.0 + spec.seed} for spec, _ in runs]

    stats = write_corpus(tmp_path / "corpus")
    for worker in (0, 1):
        trainings.train(
            tmp_path / "edits.json", tmp_path / "variants", [3, 4], worker, 2, tmp_path / f"worker_{worker}.json",
            specify=lambda kind, mechanism, seed: run_spec(stats, mechanism, seed), train=train,
        )  # fmt: skip
    assert asked[0] == [("without_1", 3), ("without_2", 3)]
    assert asked[3] == [("without_1", 4), ("without_2", 4)]
    workers = [read_json(tmp_path / f"worker_{worker}.json", "ablation_worker") for worker in (0, 1)]
    runs = [run for worker in workers for run in worker["runs"]]
    assert {(run["variant"], run["seed"]): run["loss"] for run in runs} == {
        ("without_1", 3): 5.0, ("without_2", 3): 5.0, ("without_1", 4): 6.0, ("without_2", 4): None,
    }  # fmt: skip
    runs_of_2 = [run for run in runs if run["variant"] == "without_2"]
    block = effects._measured(
        {"variant": "without_2", "status": "separate", "reason": None},
        {"without_2": runs_of_2},
        {3: 4.5, 4: 4.5},
        1,
    )
    assert block["status"] == "trained"
    assert block["reason"] == "1 of 2 pairs have no difference: seed 4: it raised"
    assert block["effect"]["mean"] == 0.5
    assert math.isnan(block["effect"]["low"])
    assert (block["effect"]["n"], block["effect"]["lost"]) == (1, 1)
    against_diverged = {3: math.nan, 4: 4.5}
    nothing = effects._measured(block | {"status": "separate"}, {"without_2": runs_of_2}, against_diverged, 1)
    assert nothing["status"] == "failed"
    assert nothing["effect"] is None
    assert "seed 3: the run that it is compared with diverged; seed 4: it raised" in nothing["reason"]


def test_nothing_evolved_is_said_in_words(stats: Path, tmp_path: Path) -> None:
    split_files(tmp_path, standard(MIXER), f"# another comment\n{standard(MIXER)}")
    write_json(tmp_path / "worker_0.json", "ablation_worker", {"worker": 0, "runs": []})
    summaries = []
    for variant in ("standard", "evolved"):
        engine.train(run_spec(stats, tmp_path / f"{variant}.py", 3), tmp_path / variant)
        summaries.append(tmp_path / variant / "summary.json")
    section = AblationSection(size="tiny", seeds=[3], policy="joint", preset="test", budget=BUDGET)
    result = measured(tmp_path, summaries, section)
    assert result["edits"] == []
    assert result["summary"] == "nothing evolved: no edit to ablate (evolved computes what standard computes)"
