"""The plan of a preset: jobs of the dry run, trainings counted from the config, costs by hand arithmetic."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import ROOT
from evomix.artifacts import write_json
from evomix.config import Config, load_config
from evomix.errors import UserError
from evomix.mechanisms import library
from evomix.model.flops import forward_flops
from evomix.model.transformer import Transformer
from evomix.plan import clock, jobs, text
from evomix.plan.estimate import estimate, language_model
from evomix.plan.work import Trainings, trainings
from evomix.specs import Architecture
from evomix.training import head
from evomix.training.step_times_measured import GPU_ROWS, Measured


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def config(preset: str) -> Config:
    return load_config(jobs.merged(preset))


def counted(study: Config) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in trainings(study):
        found[item.rule] = found.get(item.rule, 0) + item.count
    return found


@pytest.mark.usefixtures("project")
def test_trainings_of_the_paper_by_hand() -> None:
    """3 frameworks and arms, 4 sizes: 50 trials a variant, 35 candidates, 3 finalists × 3 seeds, 8 + 3 repeats."""
    study = config("paper")
    assert counted(study) == {
        "run_trials": 3 * 2 * 50,
        "evaluate_standard": 3 * 4 * (8 + 3),
        "evaluate": 3 * 3 * 35 * 4,
        "rerank": 3 * 3 * 3 * 3 * 4,
        "train": 3 * 2 * (10 + 4 * 5),
        "train_edits": 3 * 8 * 2 * 5,
        "run_probes": 3 * 2 * 10 * 3,
    }
    steps = sum(item.total_steps for item in trainings(study) if item.rule != "run_probes")
    assert steps == 300 * 50_000 + (132 + 1260 + 324 + 180 + 240) * 100_000 == 228_600_000


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("preset", ["test", "paper"])
def test_trainings_are_those_of_the_dry_run(preset: str) -> None:
    """One job per frozen run, per candidate, per finalist: each of known trainings."""
    study, found = config(preset), jobs.count(preset, everything=True)
    each = len(study.evolution.sizes)
    per_job = {
        "train": 1,
        "evaluate": each * len(study.evolution.seeds),
        "rerank": each * len(study.evolution.finalist_seeds),
    }
    total = counted(study)
    assert {rule: found[rule] * count for rule, count in per_job.items()} == {rule: total[rule] for rule in per_job}
    assert found["run_trials"] * study.tuning.trials == total["run_trials"] * study.tuning.workers
    assert found["evaluate_standard"] == 2 * len(study.frameworks)


@pytest.mark.usefixtures("project")
def test_shared_tuning_and_members_in_the_pair_change_the_work() -> None:
    study = config("test")
    shared = study.model_copy(update={"tuning": study.tuning.model_copy(update={"policy": "shared"})})
    assert counted(shared)["run_trials"] == counted(study)["run_trials"] / 2
    changed = study.validation.model_copy(update={"candidate": {"matrix_mixer": "ssd"}})
    judged = counted(study.model_copy(update={"validation": changed}))
    assert judged["run_trials"] - counted(study)["run_trials"] == study.tuning.trials
    assert judged["train"] - counted(study)["train"] == len(study.validation.seeds)  # evolved, for the comparison


@pytest.mark.usefixtures("project")
def test_every_rule_that_trains_on_the_device_is_priced() -> None:
    """A new phase with a GPU must enter the plan; re-measuring trains nothing."""
    rules = "".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    parts = re.split(r"^rule (\w+):", rules, flags=re.MULTILINE)
    on_device = {name for name, body in zip(parts[1::2], parts[2::2], strict=True) if "gpu=GPUS" in body}
    asked = {"train_member", "probe_heavy"}  # the gallery and the check of a site run only when asked
    reading = {"rescore", "read_lengths"}
    found = {item.rule for preset in ("paper", "test") for item in trainings(config(preset))} | {"evaluate_member"}
    assert on_device - asked - reading == found


@pytest.mark.usefixtures("project")
def test_hours_energy_and_dollars_by_hand(tmp_path: Path) -> None:
    """From measured steps: 2k takes 36 s a step alone and in a stack of two, 4k has the model's ratio."""
    study = config("test")
    for seed, runs in ((1, 1), (2, 2)):
        folder = tmp_path / "training" / f"seed_{seed}"
        timing = {"seconds": 3_600.0 * runs, "runs": runs, "device": "cpu"}
        write_json(folder / "timing.json", "timing", timing)
        write_json(folder / "summary.json", "training", {"size": "2k", "steps": 100})
    plan = estimate(study, {"train": 24, "validate": 1_200}, {"train": 4}, tmp_path)
    line = next(item for item in plan.lines if item.rule == "train")
    model = {item.size: clock.step_seconds(item, clock.CPU)[0] for item in trainings(study)}
    # 12 runs of 12 steps at each of two sizes; 24 jobs start in 3 s each.
    expected = 12 * 12 * 36 * (1 + model["4k"] / model["2k"]) + 24 * 3
    assert line.hours == pytest.approx(expected / 3_600)
    assert (line.jobs, line.left, line.trainings, line.steps) == (24, 4, 24, 288)
    assert line.tokens == 288 * 4 * 32
    assert plan.cpu_hours == pytest.approx(1_200 * 1.9 / 3_600)
    assert plan.energy == pytest.approx((plan.hours + plan.cpu_hours) * 0.012 * 1.2)
    assert plan.dollars == pytest.approx((plan.hours + plan.cpu_hours) * 0.05)
    assert "2k 3.6e+04 ms (2)" in text.render(plan)


def test_cpu_clock_meets_measured_steps() -> None:
    """CPU-seconds of single steps of the three standards (mean), one thread of an AMD EPYC: within a quarter."""
    measured = {  # width, layers, heads, vocabulary, tokens, batch
        (16, 2, 2, 64, 32, 16): 4.9e-3,
        (16, 2, 2, 512, 64, 16): 8.1e-3,
        (24, 2, 2, 512, 64, 8): 5.9e-3,
        (32, 2, 2, 512, 64, 12): 9.5e-3,
        (48, 4, 2, 2_048, 128, 16): 70e-3,
        (72, 8, 3, 16_384, 128, 16): 347e-3,
        (96, 4, 4, 16_384, 128, 64): 1.21,
    }
    for (width, layers, heads, vocabulary, tokens, batch), seconds in measured.items():
        shape = {"width": width, "layers": layers, "heads": heads, "vocabulary": vocabulary, "sequence_length": tokens}
        shell = Architecture.model_validate({**shape, "dropout": 0.1})
        assert sum(clock.step_terms(shell, batch, clock.CPU)) == pytest.approx(seconds, rel=0.25)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("row", GPU_ROWS)
def test_gpu_clock_meets_captured_steps(row: Measured) -> None:
    """The engine's own measurements of runs alone, at the study's sizes."""
    found = re.search(r"d(\d+) L(\d+) T128 V16384 B64", row.name)
    assert found is not None
    width, layers = int(found[1]), int(found[2])
    heads = next(size.heads for size in config("paper").sizes.values() if (size.width, size.layers) == (width, layers))
    shape = {"width": width, "layers": layers, "heads": heads, "vocabulary": 16_384, "sequence_length": 128}
    terms = clock.step_terms(Architecture.model_validate({**shape, "dropout": 0.1}), 64, clock.GPU)
    assert sum(terms) * 1e3 == pytest.approx(row.alone / row.runs, rel=0.11)


@pytest.mark.usefixtures("project")
def test_paper_by_hand_from_the_roofline() -> None:
    """At width 128: 6 · (24 · 128² + 4 · 128 · 128 + 5 · 128 · 4) + 2 · 128 · 16384 = 6,962,176 FLOPs a token."""
    study = config("paper")
    base = Architecture(width=128, layers=6, heads=4, vocabulary=16_384, sequence_length=128, dropout=0.1)
    assert base == next(item.shell for item in trainings(study) if item.size == "base")
    assert clock.forward_flops(base) == 6_962_176
    arithmetic, traffic, launches = clock.step_terms(base, 64, clock.GPU)
    assert arithmetic == pytest.approx(3 * 8_192 * 6_962_176 / 118.5e12)
    assert launches == pytest.approx((40 + 6 * 200 + 4 * 25) * 3e-6)
    group = Trainings("train", 1, "base", 1, 64, base)
    assert clock.step_seconds(group, clock.GPU)[0] == pytest.approx(arithmetic + traffic + launches)
    plan = estimate(study, {}, {}, Path("nowhere"))
    assert plan.energy == pytest.approx(plan.hours * 0.84)
    assert plan.rent == pytest.approx(plan.hours * 3)
    assert 0 < plan.least < plan.hours
    # 6 arms ask; 35 · 1.5 calls of 7000 · $1.25 + 6000 · $10 per million
    assert plan.llm == pytest.approx(6 * 35 * 1.5 * 0.06875)
    assert plan.llm_most == pytest.approx(6 * 35 * 3 * (21_000 * 1.25e-6 + 0.16))


@pytest.mark.usefixtures("project")
def test_language_model_is_capped_and_free_when_replayed() -> None:
    study = config("paper")
    search = study.evolution
    poor = search.model_copy(update={"llm": search.llm.model_copy(update={"dollars": 2.0})})
    assert language_model(study.model_copy(update={"evolution": poor})) == (12.0, 12.0)
    replayed = search.model_copy(update={"llm": search.llm.model_copy(update={"provider": "recorded"})})
    assert language_model(study.model_copy(update={"evolution": replayed})) == (0.0, 0.0)
    assert language_model(config("test")) == (0.0, 0.0)


@pytest.mark.parametrize("framework", ["coefficient_dynamics", "test_time_regression", "matrix_mixer"])
def test_model_of_a_step_follows_the_engine(framework: str) -> None:
    """FLOPs of the formula against the standard's own statement, and the size of a chunk of the head."""
    shell = Architecture(width=48, layers=2, heads=4, vocabulary=300, sequence_length=64, dropout=0.0)
    model = Transformer(shell, library.load(library.standard(framework)), 1)
    assert clock.forward_flops(shell) == pytest.approx(forward_flops(model)["total"], rel=0.02)
    assert {"cpu": clock.CPU.head_chunk, "cuda": clock.GPU.head_chunk} == head._CHUNK_ELEMENTS


@pytest.mark.usefixtures("project")
def test_unknown_preset_costs_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserError,
        match=r"there is no preset 'papr' \(config/presets/papr.yaml is missing\); choose one of paper",
    ):
        jobs.merged("papr")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="run from the project's folder"):
        jobs.merged("paper")
