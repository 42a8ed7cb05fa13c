"""The DAG: every phase is in it, exactly what changed is redone, and mistakes cost one sentence.

The questions of redoing are asked of a study whose outputs are placeholders recorded as finished: Snakemake's answer
depends on its records alone, and a dry run takes seconds. test_study.py runs the study for real.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import copy_project
from evomix import why
from workflow_runs import planned, pretend_finished, snakemake

TRAINING = {"run_trials", "evaluate_standard", "evaluate", "rerank", "train", "train_edits"}
BEFORE_TRAINING = {
    "collect_documents",
    "train_tokenizer",
    "encode_shard",
    "summarise_corpus",
    "freeze_standard",
    "certify",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with a study recorded as finished."""
    project = copy_project(tmp_path_factory.mktemp("finished") / "evomix")
    pretend_finished(project)
    return project


def edit(path: Path, old: str, new: str) -> str:
    """Replace `old` in a file (it must be there) and return the text before."""
    text = path.read_text()
    assert old in text, f"{path} no longer contains {old!r}"
    path.write_text(text.replace(old, new, 1))
    return text


def test_a_second_run_does_nothing(finished: Path) -> None:
    assert planned(finished) == {}


def test_a_changed_alpha_redoes_only_the_test_and_its_readers(finished: Path) -> None:
    jobs = planned(finished, "--config", 'validation={"alpha": 0.01}')
    assert jobs["validate"] == 1
    readers = {
        "configure",
        "validate",
        "calibrate",
        "compare_frameworks",
        "draw_figure",
        "build_report",
        "write_tables",
        "write_card",
    }
    assert set(jobs) <= readers
    assert jobs["configure"] == 1


def test_one_more_seed_adds_only_its_runs(finished: Path) -> None:
    jobs = planned(finished, "--config", 'validation={"seeds": [42, 43, 44]}')
    assert jobs["train"] == jobs["write_run_spec"] == 3 * 2
    assert not TRAINING & set(jobs) - {"train"}
    assert not BEFORE_TRAINING & set(jobs)


def test_the_ablation_is_three_jobs_a_framework_or_none(finished: Path) -> None:
    jobs = planned(finished, "--forceall")
    assert [jobs[rule] for rule in ("split_edits", "train_edits", "measure_edits")] == [3, 3, 3]
    without = planned(finished, "--forceall", "--config", 'ablation={"edits": 0}')
    assert not {"split_edits", "train_edits", "measure_edits"} & set(without)
    assert jobs["draw_figure"] - without["draw_figure"] == 3


def test_one_more_size_adds_only_its_runs(finished: Path) -> None:
    sizes = 'sizes={"8k": {"width": 16, "layers": 2, "heads": 2, "parameters": 6480}}'
    jobs = planned(finished, "--config", sizes, 'scaling={"sizes": ["2k", "4k", "8k"]}')
    assert jobs["train"] == jobs["write_run_spec"] == 3 * 2 * 2  # frameworks, variants, seeds
    assert not TRAINING & set(jobs) - {"train"}
    assert not BEFORE_TRAINING & set(jobs)


@pytest.mark.slow
def test_one_more_framework_adds_only_its_own_work(tmp_path: Path) -> None:
    two, three = ("--config", "frameworks=[coefficient_dynamics,matrix_mixer]"), ()
    project = copy_project(tmp_path / "evomix")
    pretend_finished(project, arguments=two)
    assert planned(project, *two) == {}
    jobs = planned(project, *three)
    whole = planned(project, "--forceall")
    for rule in TRAINING - {"evaluate_standard"}:
        assert jobs[rule] * 3 == whole[rule], rule
    assert jobs["certify"] == 2
    assert not {"collect_documents", "train_tokenizer", "encode_shard", "design_trials"} & set(jobs)


def test_more_iterations_add_only_new_waves(finished: Path) -> None:
    jobs = planned(finished, "--config", 'evolution={"iterations": 4}')
    assert jobs["propose"] == jobs["tell"] == jobs["evaluate"] == 3 * 2
    assert not {"run_trials", "evaluate_standard", "seed_population"} & {
        rule for rule, count in jobs.items() if rule != "run_trials" or count > 3
    }
    assert not (BEFORE_TRAINING - {"certify"}) & set(jobs)


def test_one_more_seed_of_the_probes_touches_nothing_but_them(finished: Path) -> None:
    jobs = planned(finished, "--config", 'probes={"seeds": [1, 2, 3]}')
    assert (jobs["write_probe_data"], jobs["run_probes"], jobs["summarise_probes"]) == (1, 3 * 2, 3)
    probed = {"configure", "write_probe_data", "run_probes", "summarise_probes"}
    assert set(jobs) - probed <= {"draw_figure", "build_report", "write_tables", "write_card"}


def test_a_comment_in_the_engine_redoes_nothing(finished: Path) -> None:
    engine = finished / "src/evomix/training/engine.py"
    before = engine.read_text()
    engine.write_text(before + "\n# a comment\n")
    try:
        assert planned(finished) == {}
    finally:
        engine.write_text(before)


def test_a_changed_line_of_the_optimiser_redoes_every_training_and_nothing_before_it(finished: Path) -> None:
    optimizer = finished / "src/evomix/training/optimizer.py"
    before = optimizer.read_text()
    changed = re.sub(r"1e-8", "1e-7", before, count=1)
    assert changed != before, "optimizer.py no longer holds its epsilon 1e-8"
    optimizer.write_text(changed)
    try:
        jobs = planned(finished)
        said = why.explain(snakemake(finished, "all", "-n").stdout, finished / "results/test/logs/code")
    finally:
        optimizer.write_text(before)
    assert re.search(r"- \d+ jobs, because code changed \(evomix\.training\.optimizer\): ", said)
    everything = planned(finished, "--forceall")
    assert {rule: jobs.get(rule) for rule in TRAINING} == {rule: everything[rule] for rule in TRAINING}
    assert not (BEFORE_TRAINING - {"certify"}) & set(jobs)
    assert jobs.get("certify", 0) <= 3  # the evolved variants', which the search makes anew


def test_parsing_imports_nothing_heavy(finished: Path) -> None:
    """Every cluster job parses the Snakefile twice: torch and its like would cost each of them seconds."""
    code = (
        "import sys; from snakemake.cli import main; before = set(sys.modules)\n"
        "try: main(['results/test/config/corpus.json', '-n', '-q', '--cores', '1', '--configfile', sys.argv[1]])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(finished / "src")}
    command = [sys.executable, "-c", code, "config/presets/test.yaml"]
    result = subprocess.run(command, cwd=finished, env=environment, capture_output=True, text=True, check=True)
    imported = set(result.stdout.splitlines()[-1].split())
    assert "evomix" in imported
    heavy = {"torch", "openevolve", "optuna", "scipy", "statsmodels", "matplotlib", "tokenizers", "datasets", "openai"}
    assert not heavy & imported


def test_graph_lint_and_report_work(finished: Path) -> None:
    graph = snakemake(finished, "all", "--rulegraph").stdout
    assert "digraph" in graph
    assert '"train"' in graph.replace("label = ", "").replace('label="train"', '"train"')
    lint = snakemake(finished, "--lint", check=False)
    assert "Congratulations" in lint.stdout, lint.stdout[-3000:]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ('training={"stepz": 3}', "unknown key `training.stepz`; the nearest valid key is `training.steps`"),
        ('training={"steps": "many"}', "`training.steps` is 'many'"),
        ('evolution={"iterations": 3, "wave_size": 2}', "must be a multiple of wave_size"),
        ('validation={"seeds": [7, 8]}', "the claim needs seeds that nothing was chosen on"),
        ('sizes={"2k": {"width": 64}}', "off the target"),
        ('scaling={"sizes": ["2k", "9k"]}', "names size '9k', which `sizes` lacks"),
    ],
)
def test_mistakes_in_the_config_cost_one_sentence(finished: Path, override: str, sentence: str) -> None:
    result = snakemake(finished, "all", "-n", "--config", override, check=False)
    assert result.returncode != 0
    assert sentence in result.stdout
    assert "Traceback" not in result.stdout


def test_an_unwritable_results_folder_costs_one_sentence(finished: Path) -> None:
    blocked = finished / "results" / "blocked"
    blocked.write_text("a file where a folder should be")
    result = snakemake(finished, "all", "-n", "--config", "preset=blocked", check=False)
    assert result.returncode != 0
    assert "cannot write to results/blocked" in result.stdout
    assert "Traceback" not in result.stdout


def test_the_paper_writes_under_results_itself(finished: Path) -> None:
    result = snakemake(finished, "results/validation/matrix_mixer.json", "-n", "-q", "host", "--config", "preset=paper")
    counts = dict(re.findall(r"^(\w+) +(\d+)$", result.stdout, flags=re.MULTILINE))
    assert counts["validate"] == "1"
    assert json.dumps(counts)
