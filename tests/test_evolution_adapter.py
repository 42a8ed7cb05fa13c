"""Contract with OpenEvolve 0.4.0: what this project relies on, so that another version fails here, not in a study."""

from __future__ import annotations

import inspect
import json
import random
from importlib import metadata
from pathlib import Path

import pytest
from openevolve import Config, OpenEvolve
from openevolve.config import DatabaseConfig
from openevolve.database import ProgramDatabase
from openevolve.llm.ensemble import LLMEnsemble
from openevolve.prompt.sampler import PromptSampler
from openevolve.utils import code_utils

from evolution_study import Search, files
from evomix.evolution import fitness
from evomix.evolution.openevolve_adapter.population import DIMENSIONS, Population
from evomix.evolution.openevolve_adapter.responses import PatchError, apply_response
from evomix.evolution.stopping import count, new_state, reason_to_stop
from evomix.settings import Proposing

PROGRAM = "import math\n# EVOLVE-BLOCK-START\na = 1\nb = 2\n# EVOLVE-BLOCK-END\nafter = 3\n"


def population(programs: int = 6, **changes: int) -> Population:
    """Return a population of small programs with scores 0.1, 0.2, … on two islands."""
    made = Population(Proposing(population=changes.get("population", 20), islands=changes.get("islands", 2)))
    for number in range(programs):
        made.add(
            f"x = {'+'.join('1' * (number + 1))}\n",
            name=f"program-{number}",
            candidate=f"digest-{number}",
            island=number % made.islands,
            iteration=number,
            score=0.1 * (number + 1),
            cost=1.0 + number,
            report="loss 3.1",
            changes="an edit",
        )
    return made


def test_version_and_calls_we_rely_on() -> None:
    assert metadata.version("openevolve") == "0.4.0"
    assert list(inspect.signature(ProgramDatabase.add).parameters) == ["self", "program", "iteration", "target_island"]
    assert "num_inspirations" in inspect.signature(ProgramDatabase.sample_from_island).parameters
    assert "template_key" in inspect.signature(PromptSampler.build_prompt).parameters
    assert list(inspect.signature(LLMEnsemble.generate_with_context).parameters)[:3] == [
        "self",
        "system_message",
        "messages",
    ]
    for name in ("extract_diffs", "apply_diff_blocks", "enforce_evolve_blocks", "parse_full_rewrite"):
        assert callable(getattr(code_utils, name))


def test_sampling_is_a_function_of_the_seed_and_leaves_global_random_alone() -> None:
    made = population()
    random.seed(1)
    state = random.getstate()
    first = [made.sample(0, seed, 3) for seed in range(20)]
    assert random.getstate() == state
    random.seed(2)
    assert [made.sample(0, seed, 3) for seed in range(20)] == first
    assert len({parent.id for parent, _ in first}) > 1
    assert all(parent.candidate.startswith("digest") for parent, _ in first)


def test_saved_and_loaded_populations_are_equal(tmp_path: Path) -> None:
    made = population()
    made.save(tmp_path / "one", 5)
    loaded = Population(Proposing(), tmp_path / "one")
    assert loaded.programs == made.programs
    assert [loaded.sample(1, seed, 3) for seed in range(9)] == [made.sample(1, seed, 3) for seed in range(9)]
    loaded.save(tmp_path / "two", 5)
    loaded.save(tmp_path / "two", 5)
    assert files(tmp_path / "two") == files(tmp_path / "one")
    assert not list(tmp_path.glob(".*"))


def test_limits_elites_and_empty_islands(tmp_path: Path) -> None:
    """The population keeps its limit and its best; an emptied island passes the question on."""
    made = population(12, population=4)
    assert len(made.programs) <= 4
    assert max(item.score for item in made.programs) == pytest.approx(1.2)
    lonely = Population(Proposing(islands=2))
    lonely.add("x = 1\n", name="a", candidate="a", island=0, iteration=0, score=0.5, cost=1.0, report="", changes="")
    assert lonely.sample(1, 3, 2)[0].id == "a"


def test_migration_copies_the_best_to_the_next_island() -> None:
    made = population()
    assert made.end_wave(3) == []
    copies = made.end_wave(6)
    assert len(copies) == 2
    by_id = {item.id: item for item in made.programs}
    assert {by_id[name].original for name in copies} == {"program-4", "program-5"}
    assert by_id[copies[0]].island == 1
    assert made.end_wave(9) == []
    assert population().end_wave(3) == []


def test_checkpoints_open_in_openevolve(tmp_path: Path) -> None:
    """OpenEvolve's own controller resumes from what we save: same programs, islands and best."""
    search = Search(tmp_path / "search").run(2)
    program, evaluator = tmp_path / "program.py", tmp_path / "evaluator.py"
    program.write_text(PROGRAM)
    evaluator.write_text("def evaluate(path):\n    return {'combined_score': 0.5, 'complexity': 1.0, 'cost': 1.0}\n")
    config = Config()
    config.database = DatabaseConfig(num_islands=2, feature_dimensions=list(DIMENSIONS))
    config.llm.update_model_params({"api_key": "none", "api_base": "http://127.0.0.1:9/v1"})
    controller = OpenEvolve(str(program), str(evaluator), config, output_dir=str(tmp_path / "output"))
    controller._load_checkpoint(str(search.population(2)))
    ours = Population(search.proposing, search.population(2))
    assert set(controller.database.programs) == {item.id for item in ours.programs}
    assert controller.database.last_iteration == 6
    best = controller.database.get_best_program()
    assert best.metrics["combined_score"] == max(item.score for item in ours.programs)


def test_saved_programs_hold_no_time_and_no_prompt(tmp_path: Path) -> None:
    search = Search(tmp_path).run(1)
    for path in (search.population(1) / "programs").glob("*.json"):
        program = json.loads(path.read_text())
        assert program["timestamp"] in (0.0, 1.0, 2.0, 3.0)
        assert program["prompts"] == {}


@pytest.mark.parametrize(
    ("response", "full", "message"),
    [
        ("prose", False, "no SEARCH/REPLACE"),
        ("prose", True, "no fenced"),
        ("<<<<<<< SEARCH\na = 1\n=======\na = 2\n=======\n>>>>>>> REPLACE", False, "malformed"),
        ("<<<<<<< SEARCH\n\n=======\na = 2\n>>>>>>> REPLACE", False, "empty"),
        ("<<<<<<< SEARCH\nq = 1\n=======\na = 2\n>>>>>>> REPLACE", False, "`q = 1`"),
        ("<<<<<<< SEARCH\nafter = 3\n=======\nafter = 4\n>>>>>>> REPLACE", False, "`after = 4`"),
        ("<<<<<<< SEARCH\nafter = 3\n=======\n>>>>>>> REPLACE", False, "outside"),
        ("<<<<<<< SEARCH\n# EVOLVE-BLOCK-END\n=======\n>>>>>>> REPLACE", False, "markers must stay"),
        ("```python\na = 5\n```", True, "markers must stay"),
        ("```python\n" + PROGRAM.replace("import math", "import os") + "```", True, "`import os`"),
    ],
)
def test_illegal_responses_name_their_fault(response: str, full: bool, message: str) -> None:
    with pytest.raises(PatchError) as error:
        apply_response(PROGRAM, response, full=full)
    assert message in str(error.value)


def test_legal_responses_edit_the_block() -> None:
    diff = "Why.\n<<<<<<< SEARCH\na = 1\n=======\na = 7\nc = 8\n>>>>>>> REPLACE\n"
    expected = PROGRAM.replace("a = 1", "a = 7\nc = 8")
    assert apply_response(PROGRAM, diff, full=False) == expected
    assert apply_response(PROGRAM, diff.replace("\n", "\r\n"), full=False) == expected
    assert apply_response(PROGRAM, f"```python\n{expected}```", full=True) == expected


def test_slope_gain_and_score() -> None:
    """Hand-computed values; the score is monotone, one half for the standard, and never saturates."""
    parameters = {"a": 100.0, "b": 1000.0}
    losses = {"a": {"1": 3.0, "2": 3.2}, "b": {"1": 2.0, "2": 2.2}}
    slope = fitness.ordinary_slope(losses, parameters)
    assert slope == pytest.approx(-1.0 / 2.302585093)
    better = {size: {seed: loss - 0.1 for seed, loss in seeds.items()} for size, seeds in losses.items()}
    assert fitness.paired_gain(better, losses) == pytest.approx(0.1)
    assert fitness.best_possible_gain({"a": {"1": 9.0}}, losses) == pytest.approx((-6.0 + 2.1) / 2)
    noise = fitness.noise(losses, parameters, 1)
    assert noise["slope"] == pytest.approx(0.0, abs=1e-12)
    assert noise["gain"] == pytest.approx(0.2 / 2**0.5 * 2**0.5)
    values = [fitness.score(value, 0.0, 0.01) for value in (-1e3, -0.04, 0.0, 0.04, 1e3, 1e6)]
    assert values == sorted(set(values))
    assert values[1:4] == pytest.approx([0.25, 0.5, 0.75])
    with pytest.raises(ValueError, match="different numbers"):
        fitness.ordinary_slope(losses, {"a": 5.0, "b": 5.0})


def test_shrinkage_follows_the_formula() -> None:
    """τ²/(τ²+σ²) of the spread remains; all of it goes when the noise explains the spread."""
    values = {"a": 0.0, "b": 1.0, "c": 2.0}
    assert fitness.shrunken(values, 0.5)["c"] == pytest.approx(1 + 0.75)
    assert set(fitness.shrunken(values, 2.0).values()) == {1.0}
    assert fitness.shrunken(values, None) == values


def test_stop_rules_count_what_they_say() -> None:
    rules = Proposing(patience=3, max_invalid=2)
    state = new_state()
    for status, valid in (("refused", False), ("failed", False), ("stopped", False), ("accepted", True)):
        state = count(state, status=status, valid=valid, improved=status == "accepted")
        assert reason_to_stop(state, rules, None) is None
    assert state["evaluated"] == 3
    for _ in range(3):
        state = count(state, status="accepted", valid=True, improved=False)
    assert reason_to_stop(state, rules, None) == "no improvement for 3 candidates (patience 3)"
    assert reason_to_stop(new_state(), rules, "money") == "money"
