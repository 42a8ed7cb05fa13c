"""A small sound study on real files, made through the real command line: what bad input is tried on.

Every case of test_bad_input.py copies it, spoils one thing, and runs one command that reads the thing.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import yaml
from snakemake.utils import update_config

from conftest import ROOT
from evolution_study import Search
from evomix import cli
from evomix.artifacts import digest_file, read_json, write_json, write_text
from evomix.config import Config, load_config
from evomix.sections import sections
from evomix.settings import Proposing
from evomix.specs import RunSpec, load_section, read_spec, write_spec
from statistics_study import write_study

FRAMEWORK = "coefficient_dynamics"


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in `folder`, as the workflow works in the clone: artifacts name their files relative to it."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def evomix(*arguments: object) -> tuple[int, str]:
    """Run `python -m evomix ARGUMENTS` in this process; return its exit status and what it printed."""
    printed, before = io.StringIO(), sys.argv
    sys.argv = ["evomix", *map(str, arguments)]
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            cli.main()
    except SystemExit as end:
        return int(end.code or 0), printed.getvalue()
    finally:
        sys.argv = before
    return 0, printed.getvalue()


def required(*arguments: object) -> None:
    """Run a command that must succeed."""
    status, printed = evomix(*arguments)
    assert status == 0, printed


def study() -> Config:
    """Return the config of the preset `test`."""
    merged: dict[str, Any] = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    update_config(merged, yaml.safe_load((ROOT / "config/presets/test.yaml").read_text()))
    update_config(merged, {"corpus": {"stories": 200}, "evolution": {"arms": ["random", "guided"]}})
    return load_config(merged)


def build(folder: Path) -> None:
    """Make the study in `folder`: sections, corpus, tuning, one training with weights and a checkpoint, a search."""
    folder.mkdir(parents=True)
    for name, text in sections(study()).items():
        write_text(folder / f"config/{name}.json", text)
    shutil.copy(ROOT / f"src/evomix/mechanisms/{FRAMEWORK}/softmax.py", folder / "standard.py")
    with inside(folder):
        corpus()
        tuning()
        training()
        search()
        write_study(Path("training"), lambda *run: 3.0 + run[3] / 1000, [42, 43], [FRAMEWORK])
        write_json(Path("rescoring/evolved.json"), "rescoring", {"runs": [], "passed": True})


def corpus() -> None:
    """Collect documents, train the tokenizer, encode all shards."""
    required("collect-documents", "config/corpus.json", "corpus/documents/documents.json")
    required("train-tokenizer", "config/corpus.json", "corpus/documents/train.jsonl", "corpus/tokenizer.json")
    for shard in ("train", "search", "selection", "test"):
        required("encode-shard", "corpus/tokenizer.json", f"corpus/documents/{shard}.jsonl", f"corpus/{shard}.bin")
    required("summarise-corpus", "corpus/stats.json")


def tuning() -> None:
    """Design the trials, give them losses, choose the hyper-parameters."""
    required("design-trials", "config/tuning.json", "tuning/design.json")
    planned = read_json(Path("tuning/design.json"), "tuning_design")["trials"]
    records = [
        {"number": trial["number"], "spec_digest": "0", "status": "finished", "reason": None, "steps": 6, "rungs": {},
         "loss": 3.0 + trial["number"] / 100}
        for trial in planned
    ]  # fmt: skip
    write_json(
        Path("tuning/worker_0.json"),
        "tuning_worker",
        {"framework": FRAMEWORK, "variant": "standard", "size": "2k", "worker": 0,
         "design": digest_file(Path("tuning/design.json")), "trials": records},
    )  # fmt: skip
    required(*CHOOSE)


def training() -> None:
    """Write a run's spec and train it in this process; keep a checkpoint as an interrupted run leaves one."""
    required(*WRITE_SPEC)
    from evomix.training import checkpoint, engine

    spec = read_spec(Path("run/spec.json"), RunSpec)
    engine.train(spec, Path("run"))
    trainer, _, _ = engine.prepare(spec)
    for step in (5, 10):
        checkpoint.save(Path("stopped/checkpoint"), step, dict(trainer.model.state_dict()), {"identity": {}})
    shutil.copy("run/spec.json", "stopped/spec.json")


def search() -> None:
    """Search one wave, and write the spec by which candidates are judged."""
    proposing = load_section(Path("config/evolution.json"), Proposing)
    found = Search(Path("evolution"), framework=FRAMEWORK, arm="random", proposing=proposing).run(1)
    found.finish(1, finalists=1)
    write_spec(Path("evolution/candidates.spec.json"), found.spec)


CHOOSE = (
    "choose-hyperparameters", "tuning/worker_0.json", "--section", "config/tuning.json",
    "--policy", "config/policy.json", "--design", "tuning/design.json", "--output", "tuning/best.json",
)  # fmt: skip
WAVE = f"evolution/{FRAMEWORK}/random/wave_1"
SLOT = f"{WAVE}/slot_0"
PROPOSE = (
    "propose", f"{WAVE}/population", "--section", "config/evolution.json", "--spec", "evolution/candidates.spec.json",
    "--wave", "2", "--output", "proposed", "--arm",
)  # fmt: skip
TELL = (
    "tell", f"{SLOT}/evaluation.json", "--section", "config/evolution.json", "--framework", FRAMEWORK,
    "--arm", "random", "--wave", "1",
    "--population", f"evolution/{FRAMEWORK}/random/wave_0/population", "--output", "told/population",
)  # fmt: skip
SUMMARIES = [
    f"training/{FRAMEWORK}/{arm}/0.5M/seed_{seed}/summary.json" for arm in ("standard", "evolved") for seed in (42, 43)
]
FIT = (
    "fit-scaling-law", *SUMMARIES, "--section", "config/policy.json", "--framework", FRAMEWORK,
    "--pair", "standard", "evolved", "--rescoring", "rescoring/evolved.json", "--output", "scaling.json",
)  # fmt: skip
WRITE_SPEC = (
    "write-run-spec", "run/spec.json", "--framework", FRAMEWORK, "--variant", "standard", "--size-name", "2k",
    "--seed", "42", "--mechanism", "standard.py", "--stats", "corpus/stats.json",
    "--training", "config/training.json", "--size", "config/size-2k.json", "--best", "tuning/best.json",
)  # fmt: skip


def alter(path: str, **changes: Any) -> None:
    """Replace keys of a JSON file; a value of `...` removes the key."""
    content = json.loads(Path(path).read_text())
    for key, value in changes.items():
        content.pop(key, None)
        if value is not ...:
            content[key] = value
    Path(path).write_text(json.dumps(content))


def cut(path: str, share: float = 0.5) -> None:
    """Keep the first part of a file, as a full disk or a broken copy does."""
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: int(len(content) * share)])
