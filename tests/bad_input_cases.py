"""What can be wrong with a study, kind by kind: how to spoil the sound one, the command that meets it, its words.

Root ignores the modes of files, so what cannot be read or written is shown with folders where files belong and with
files where folders belong; test_bad_input.py tries real modes as another user.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_input_bench import (
    CHOOSE,
    FIT,
    FRAMEWORK,
    PROPOSE,
    SLOT,
    SUMMARIES,
    TELL,
    WAVE,
    WRITE_SPEC,
    alter,
    cut,
    evomix,
)

Spoil = Callable[[], object]


def remove(path: str) -> Spoil:
    return lambda: Path(path).unlink()


def text(path: str, content: str) -> Spoil:
    return raw(path, content.encode())


def raw(path: str, content: bytes) -> Spoil:
    """Write a file of this content."""

    def spoil() -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)

    return spoil


def half(path: str) -> Spoil:
    return lambda: cut(path)


def keys(path: str, **changes: Any) -> Spoil:
    return lambda: alter(path, **changes)


def source(path: str, content: bytes | None = None, place: str | None = None) -> Spoil:
    """Let the corpus come from `place`, by default the file `path`, which gets this content."""

    def spoil() -> None:
        alter("config/corpus.json", source=place or path)
        if content is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(content)

    return spoil


def llm(**settings: Any) -> Spoil:
    """Change the settings of the language model."""

    def spoil() -> None:
        content = json.loads(Path("config/evolution.json").read_text())
        content["llm"] |= settings
        Path("config/evolution.json").write_text(json.dumps(content))

    return spoil


def key_file(mode: int, content: bytes) -> Spoil:
    def spoil() -> None:
        Path("key").write_bytes(content)
        Path("key").chmod(mode)
        llm(key_file="key", provider="openai")()

    return spoil


def folder(path: str) -> Spoil:
    """Put a folder where a file belongs: nobody, not even root, can write or read it as a file."""

    def spoil() -> None:
        Path(path).unlink(missing_ok=True)
        Path(path).mkdir(parents=True)
        (Path(path) / "file").write_text("x")

    return spoil


def program() -> str:
    """Return a program of the population."""
    return str(min(Path(WAVE, "population/programs").glob("*.json")))


def new(**changes: Any) -> Spoil:
    """Make the spec of a run that has not begun, with changes."""

    def spoil() -> None:
        Path("new").mkdir()
        shutil.copy("run/spec.json", "new/spec.json")
        alter("new/spec.json", **changes)

    return spoil


def both(*spoils: Spoil) -> Spoil:
    return lambda: [spoil() for spoil in spoils]


def damaged_response() -> None:
    """Let the answer to the wave's first call be recorded, but damaged: the refusal names its file."""
    llm(provider="recorded", responses="responses")()
    found = re.search(r"response (\w+\.json)", evomix(*GUIDED)[1])
    assert found
    Path("responses").mkdir()
    Path("responses", found.group(1)).write_text('{"schema": "response", "schema_version": 1')


def older_trials() -> None:
    """Let the worker's trials be those of a version that did not yet note the rungs."""
    content = json.loads(Path("tuning/worker_0.json").read_text())
    for trial in content["trials"]:
        del trial["rungs"]
    Path("tuning/worker_0.json").write_text(json.dumps(content))


def full_disk() -> None:
    """Let every file end at four kilobytes, as on a full disk; the test lifts the limit after the command."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def nothing() -> None:
    """Spoil nothing: the command itself is wrong."""


EMPTY = '{"schema": "validation", "schema_version": 1}'
COLLECT = ("collect-documents", "config/corpus.json", "corpus/documents/documents.json")
TRAIN_TEXT = "corpus/documents/train.jsonl"
TOKENIZE = ("train-tokenizer", "config/corpus.json", TRAIN_TEXT, "corpus/tokenizer.json")
ENCODE = ("encode-shard", "corpus/tokenizer.json", "corpus/documents/test.jsonl", "corpus/test.bin")
SUMMARISE = ("summarise-corpus", "corpus/stats.json")
DESIGN = ("design-trials", "config/tuning.json", "design/new.json")
BASELINE = f"evolution/{FRAMEWORK}/baseline/evaluation.json"
TRIALS = (
    "run-trials", "tuning/design.json", "trials.json", "--section", "config/tuning.json", "--training",
    "config/training.json", "--size", "config/size-2k.json", "--mechanism", "standard.py", "--stats",
    "corpus/stats.json", "--framework", FRAMEWORK, "--variant", "standard", "--worker", "3", "--workers", "2",
)  # fmt: skip
FIRST = (*TRIALS[:-3], "0", "--workers", "2")
TRAIN, TRAIN_NEW, RESUME = ("train", "run/spec.json"), ("train-worker", "new"), ("train-worker", "stopped")
RESCORE = ("rescore", "run/spec.json", "--output", "rescoring.json")
GATE = ("gate", "standard.py", "--framework", FRAMEWORK)
SEARCH_SPEC = "evolution/candidates.spec.json"
RANDOM, GUIDED = (*PROPOSE, "random"), (*PROPOSE, "guided")
EVALUATE = ("evaluate", f"{SLOT}/candidate.py", "--spec", SEARCH_SPEC, "--baseline", BASELINE, "--output", "e/e.json")
RERANK = ("rerank", f"evolution/{FRAMEWORK}/random/finalists.json", "--rank", "1", "--baseline", BASELINE,
          "--output", "again/evaluation.json", "--spec", SEARCH_SPEC)  # fmt: skip
GALLERY = ("tabulate-gallery", SUMMARIES[0], "--section", "config/gallery.json", "--policy", "config/policy.json",
           "--stats", "corpus/stats.json", "--output", "gallery.json")  # fmt: skip
FIGURE = ("draw-figure", "--results", ".", "--view")
CHECKPOINTS = "stopped/checkpoint/step_0000000"
ON_GPU = {"device": "cuda", "precision": "float32", "checkpoint_every": 5}
HUGE = {"steps": 9, "batch_size": 10**6, "learning_rate": 0.1, "warmup_steps": 1, "weight_decay": 0.0, "clip": 1.0}

Case = tuple[str, Spoil, tuple[str, ...], str]

# fmt: off
CASES: list[Case] = [
    ("corpus: missing path", source("nowhere.jsonl"), COLLECT, "nowhere.jsonl does not exist; give `grammar`"),
    ("corpus: unknown kind", source("text.docx", b"x"), COLLECT, "its name must end in .jsonl"),
    ("corpus: a device", source("/dev/null"), COLLECT, "corpus.source /dev/null"),
    ("corpus: empty file", source("text.txt", b""), COLLECT, "holds no document; give a file"),
    ("corpus: folder without text", source("texts/picture.png", b"x", "texts"), COLLECT, "a folder without files"),
    ("corpus: no text column", source("t.jsonl", b'{"story": "x"}'), COLLECT, "line 1: no text column (found only"),
    ("corpus: not JSON", source("t.jsonl", b'{"text": "x"}\n{"text"\n'), COLLECT, "line 2: not JSON"),
    ("corpus: not UTF-8", source("t.txt", b"\xff\xfe\n"), COLLECT, "line 1: not valid UTF-8"),
    ("corpus: damaged Parquet", source("t.parquet", b"PAR1xxPAR1"), COLLECT, "not a readable Parquet file"),
    ("corpus: too small", source("t.txt", b"one\n\ntwo\n"), COLLECT, "too small for the split"),
    ("corpus: disk full", full_disk, COLLECT, "cannot write corpus/documents/train.jsonl: File too large"),
    ("documents: missing", remove(TRAIN_TEXT), TOKENIZE, f"missing file {TRAIN_TEXT}; run the rule"),
    ("documents: damaged", text(TRAIN_TEXT, '{"text": "x'), TOKENIZE, f"{TRAIN_TEXT} is damaged near line 1; delete"),
    ("documents: other rows", text(TRAIN_TEXT, '{"story": "x"}\n'), TOKENIZE, f"{TRAIN_TEXT} is damaged near line 1"),
    ("tokenizer: text too poor", text(TRAIN_TEXT, '{"text": "x"}\n'), TOKENIZE, "supports only 257 tokens; set it to"),
    ("tokenizer: missing", remove("corpus/tokenizer.json"), ENCODE, "missing tokenizer corpus/tokenizer.json; run"),
    ("tokenizer: damaged", half("corpus/tokenizer.json"), ENCODE, "is not a readable tokenizer"),
    ("tokens: cut", half("corpus/test.bin"), SUMMARISE, "where its manifest says"),
    ("tokens: missing", remove("corpus/test.bin"), SUMMARISE, "missing tokens corpus/test.bin; run the rule"),
    ("tokens: manifest lacks a key", keys("corpus/test.json", tokens=...), SUMMARISE, "lacks the key `tokens`"),
    ("tokens: manifest is wrong", keys("corpus/test.json", tokens="x"), SUMMARISE, "where its manifest says 'x'"),
    ("tokens: two tokenizers", keys("corpus/test.json", vocabulary=9), SUMMARISE, "encoded by different tokenizers"),
    ("section: missing", remove("config/tuning.json"), DESIGN, "missing file config/tuning.json; run the rule"),
    ("section: damaged", half("config/tuning.json"), DESIGN, "config/tuning.json is not valid JSON"),
    ("section: unknown key", keys("config/tuning.json", horizon=1), DESIGN, "config/tuning.json: `horizon`: extra"),
    ("section: a folder", folder("config/tuning.json"), DESIGN, "cannot read config/tuning.json: Is a directory"),
    ("tuning: design damaged", half("tuning/design.json"), CHOOSE, "tuning/design.json is not valid JSON"),
    ("tuning: design lacks trials", keys("tuning/design.json", trials=...), FIRST, "lacks the key `trials`"),
    ("tuning: another design", keys("tuning/worker_0.json", design="0"), CHOOSE, "made from another design"),
    ("tuning: trials missing", keys("tuning/worker_0.json", trials=[]), CHOOSE, "trial"),
    ("tuning: another version", keys("tuning/worker_0.json", schema_version=9), CHOOSE, "has schema version 9, this"),
    ("tuning: a trial lacks a key", older_trials, CHOOSE, "tuning/worker_0.json lacks the key `rungs`"),
    ("tuning: no choice", keys("tuning/best.json", chosen=...), WRITE_SPEC, "tuning/best.json lacks the key `chosen`"),
    ("tuning: other names", keys("tuning/best.json", chosen={"lr": 1}), WRITE_SPEC, "best.json: `batch_size`: field"),
    ("tuning: best is missing", remove("tuning/best.json"), WRITE_SPEC, "missing file tuning/best.json"),
    ("tuning: no such worker", nothing, TRIALS, "worker 3 does not exist among 2 workers"),
    ("spec: missing", remove("run/spec.json"), TRAIN, "missing file run/spec.json; run the rule"),
    ("spec: damaged", half("run/spec.json"), TRAIN, "run/spec.json is not valid JSON"),
    ("spec: another schema", nothing, ("train", "tuning/best.json"), "'tuning' where a 'run_spec' is expected"),
    ("spec: another version", keys("run/spec.json", schema_version=2), TRAIN, "has schema version 2, this"),
    ("spec: lacks a key", keys("run/spec.json", seed=...), TRAIN, "run/spec.json: `seed`: field required"),
    ("spec: wrong value", keys("run/spec.json", seed="x"), TRAIN, "run/spec.json: `seed`: input should be"),
    ("spec: no GPU here", new(execution=ON_GPU), TRAIN_NEW, "no usable GPU; set it to `cpu`"),
    ("spec: batch over the corpus", new(optimisation=HUGE), TRAIN_NEW, "fewer than one batch of 1000000; give"),
    ("mechanism: changed", both(new(), text("standard.py", "x = 1\n")), TRAIN_NEW, "has changed since the spec was"),
    ("mechanism: missing", both(new(), remove("standard.py")), TRAIN_NEW, "missing mechanism standard.py; run"),
    ("mechanism: not text", raw("standard.py", b"\xff\xfe"), GATE, "standard.py is not UTF-8 text"),
    ("mechanism: not at the gate", remove("standard.py"), GATE, "missing file standard.py"),
    ("run: corpus changed", both(new(), keys("corpus/stats.json", x=1)), TRAIN_NEW, "stats.json has changed since"),
    ("run: corpus missing", both(new(), remove("corpus/stats.json")), TRAIN_NEW, "missing file corpus/stats.json"),
    ("run: summary damaged", half("run/summary.json"), RESCORE, "run/summary.json is not valid JSON"),
    ("checkpoint: all damaged", both(half(f"{CHECKPOINTS}05.safetensors"), half(f"{CHECKPOINTS}10.safetensors")),
     RESUME, "no readable checkpoint in stopped/checkpoint; delete the folder"),
    ("weights: missing", remove("run/model.safetensors"), RESCORE, "does not hold this run's weights"),
    ("weights: cut", half("run/model.safetensors"), RESCORE, "model.safetensors does not hold this run's weights"),
    ("weights: of another kind", text("run/model.safetensors", "{}"), RESCORE, "does not hold this run's weights"),
    ("search: spec missing", remove(SEARCH_SPEC), RANDOM, f"missing file {SEARCH_SPEC}; run the rule"),
    ("search: unknown arm", nothing, (*PROPOSE, "clever"), "unknown arm 'clever'; choose one of"),
    ("search: unknown framework", nothing, ("gate", "standard.py", "--framework", "rnn"), "unknown framework 'rnn'"),
    ("search: tell.json missing", remove(f"{WAVE}/tell.json"), RANDOM, f"missing file {WAVE}/tell.json"),
    ("search: tell.json lacks a key", keys(f"{WAVE}/tell.json", seeds=...), RANDOM, "tell.json lacks the key `seeds`"),
    ("search: finalists on the wrong text", nothing, RERANK, "on the shard `selection`, not `search`"),
    ("search: baseline lacks a size", keys(BASELINE, losses={}), EVALUATE, "evaluation.json"),
    ("population: missing", lambda: shutil.rmtree(f"{WAVE}/population"), RANDOM, "is not a saved population"),
    ("population: metadata", half(f"{WAVE}/population/metadata.json"), RANDOM, "is not a saved population"),
    ("population: lost program", lambda: Path(program()).unlink(), RANDOM, "lacks program"),
    ("population: damaged program", lambda: cut(program()), RANDOM, "lacks program"),
    ("population: no score", lambda: alter(program(), metrics={}), RANDOM, "it lacks 'combined_score'"),
    ("population: no metadata", lambda: alter(program(), metadata={}), RANDOM, "it lacks 'candidate'"),
    ("evaluation: missing", remove(f"{SLOT}/evaluation.json"), TELL, f"missing file {SLOT}/evaluation.json"),
    ("evaluation: of another", keys(f"{SLOT}/evaluation.json", candidate="0"), TELL, "judges another candidate than"),
    ("evaluation: lacks a key", keys(f"{SLOT}/evaluation.json", status=...), TELL, "lacks the key `status`"),
    ("evaluation: no candidate", remove(f"{SLOT}/candidate.py"), TELL, f"missing file {SLOT}/candidate.py"),
    ("evaluation: not text", raw(f"{SLOT}/candidate.py", b"\xff"), TELL, "candidate.py is not UTF-8 text"),
    ("responses: none recorded", llm(provider="recorded", responses="responses"), GUIDED, "no recorded response"),
    ("responses: damaged", damaged_response, GUIDED, "is not valid JSON"),
    ("key: others can read it", key_file(0o644, b"secret"), GUIDED, "others can read the key file key; run chmod 600"),
    ("key: empty", key_file(0o600, b"\n"), GUIDED, "the key file key is empty; write the key into it"),
    ("key: not text", key_file(0o600, b"\xff\xfe"), GUIDED, "key is not UTF-8 text"),
    ("key: none", llm(key_file="nokey", provider="openai"), GUIDED, "no key: write it into nokey (chmod 600)"),
    ("results: another version", keys(SUMMARIES[0], schema_version=2), FIT, "has schema version 2, this evomix reads"),
    ("results: lacks a field", keys(SUMMARIES[0], loss=...), FIT, "summary.json has no field `loss`"),
    ("results: other shape", keys(SUMMARIES[0], parameters={}), FIT, "summary.json lacks the key `non_embedding`"),
    ("results: loss is text", keys(SUMMARIES[0], loss="low"), FIT, "summary.json holds a loss or a count that is no"),
    ("results: a list", text(SUMMARIES[0], "[]"), FIT, "is a 'list' where a 'training' is expected"),
    ("results: a run is missing", nothing, (*FIT[:1], SUMMARIES[0], *FIT[len(SUMMARIES) + 1 :]), "run the workflow"),
    ("results: a run twice", nothing, (FIT[0], SUMMARIES[0], *FIT[1:]), "was given twice; pass each run once"),
    ("results: no study there", nothing, ("verdicts", "nowhere"), "no validation under nowhere; run the workflow"),
    ("results: verdict lacks a key", text("validation/x.json", EMPTY), ("verdicts", "."), "x.json lacks the key"),
    ("gallery: no timing", nothing, GALLERY, "timing.json"),
    ("figure: unknown", nothing, (*FIGURE, "study", "pie"), "there is no figure 'pie'; choose one of"),
    ("figure: unknown view", nothing, (*FIGURE, "rnn", "tuning_surface"), "unknown framework 'rnn'; choose one of"),
    ("figure: no study", nothing, ("draw-figure", "horizon", "--view", "study", "--results", "no"), "is not a folder"),
    ("write: a folder in the way", folder("design/new.json"), DESIGN, "cannot write design/new.json: Is a directory"),
    ("write: a file in the way", text("design", ""), DESIGN, "cannot write design/new.json"),
]
# fmt: on
