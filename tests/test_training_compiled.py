"""A compiled step is the stack's step: traced exactly, carried as data that is refused when it is anything else,
compiled outside the candidate's sandbox, resumed to the same bytes. What really compiles is marked slow."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from evomix.artifacts import read_json
from evomix.errors import UserError
from evomix.gate import sandbox
from evomix.mechanisms import library
from evomix.settings import Sandbox
from evomix.specs import RunSpec
from evomix.streams import torch_stream
from evomix.training import checkpoint, compiled, compiling, engine, ensemble, portable
from evomix.training.compiled import Compiled
from evomix.training.contained import train_all_contained
from evomix.training.finished import held_out_at
from evomix.training.stack import Stack
from evomix.training.trainer import Trainer
from test_training_ensemble import MEMBERS, RUNS, make_trainers
from training_study import EXECUTION, make_spec, write_corpus

REFUSED = {
    **dict.fromkeys(("local_linear", "mesa"), "_linalg_solve_ex"),
    **dict.fromkeys(("toeplitz", "dynamic_toeplitz"), "_conj"),
}
"""Members whose step has an operation that may not be compiled: a general linear solve, complex numbers."""

STANDARD = library.standard("matrix_mixer")
BATCHES = [torch.randint(61, (RUNS, 3, 17), generator=torch_stream(step, "tokens")) for step in range(40)]


def curves(stepper: Stack | Compiled, alone: list[Trainer]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return losses and gradient norms (steps, 2, R) of a stack's way and of the runs alone."""
    ours = torch.stack([torch.stack(stepper.step(step, tokens)) for step, tokens in enumerate(BATCHES)])
    theirs = torch.zeros_like(ours)
    for step, tokens in enumerate(BATCHES):
        for run, trainer in enumerate(alone):
            theirs[step, :, run] = torch.stack(trainer.step(step, tokens[run]))
    return ours, theirs


@pytest.fixture(scope="module")
def stats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def test_a_traced_step_carried_as_text_is_the_step(tmp_path: Path) -> None:
    """The graph that the compiler reads, interpreted: as many steps in float64 as the stack takes, dropout on."""
    trainers = make_trainers(STANDARD, torch.float64)
    compiled.trace(Stack(make_trainers(STANDARD, torch.float64)), BATCHES[0], tmp_path)
    module, inputs = portable.read((tmp_path / compiled.GRAPH).read_text())
    assert inputs[0].dtype == torch.float64
    stepper = Compiled.__new__(Compiled)
    stepper.stack, stepper.captured = Stack(make_trainers(STANDARD, torch.float64)), []
    stepper.runner = type("Interpreter", (), {"run": lambda self, given: module(*given)})()
    ours, theirs = curves(stepper, trainers)
    assert (ours - theirs).abs().max() < 1e-10
    assert len(set(ours[-1, 0].tolist())) == RUNS


def test_a_run_alone_is_compiled_as_a_stack_of_one(
    stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU; paused on the way, it has the loss of an eager run."""
    spec = make_spec(stats, STANDARD, steps=1_000_000)
    trainer, batches, _ = engine.prepare(spec)
    compiled.trace(Stack([trainer]), batches.read(0)[None], tmp_path)
    module, _ = portable.read((tmp_path / compiled.GRAPH).read_text())
    (tmp_path / "key.digest.compiled").touch()
    interpreter = type("Interpreter", (), {"run": lambda self, given: module(*given)})
    monkeypatch.setattr(compiled, "_runner", lambda path, device: interpreter())
    why = ensemble.train_stacked([spec], [tmp_path / "compiled"], tmp_path, "by hand", 20)
    assert why.endswith("; by hand")
    stored = checkpoint.load(tmp_path / "compiled/checkpoint")
    assert stored is not None
    assert stored[1]["identity"]["kind"].startswith("stack of 1, ")
    assert stored[1]["identity"]["kind"].endswith(", key")
    engine.train_until(spec, tmp_path / "eager", 20)
    ours, theirs = (held_out_at(spec, tmp_path / name, 20) for name in ("compiled", "eager"))
    assert ours == pytest.approx(theirs, rel=1e-5)


def graph(**changes: Any) -> str:
    """Return the text of a sound graph with parts replaced."""
    sound: dict[str, Any] = {
        "inputs": [["float32", [2, 3]], ["int64", [2]]],
        "operations": [
            ["aten.mul.Tensor", [{"value": 0}, 2.0], {}],
            ["aten.max.dim", [{"value": 2}, 1], {}],
            ["aten.add.Tensor", [{"value": 3, "item": 0}, {"value": 1}], {}],
        ],
        "results": [{"value": 4}],
    }
    return json.dumps({**sound, **changes})


def test_a_sound_graph_computes() -> None:
    module, inputs = portable.read(graph())
    assert [list(each.shape) for each in inputs] == [[2, 3], [2]]
    (result,) = module(torch.arange(6.0).view(2, 3), torch.tensor([1, 2]))
    assert result.tolist() == [5.0, 12.0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (graph(operations=[["aten.from_file.default", ["/etc/passwd"], {}]]), "not one that may be compiled"),
        (graph(operations=[["os.system.default", ["id"], {}]]), "is unknown"),
        (graph(operations=[["aten.nothing.default", [], {}]]), "is unknown"),
        (graph(operations=[["aten.mul_.Tensor", [{"value": 0}, 2.0], {}]]), "not one that may be compiled"),
        (graph(operations=[["aten.rand.default", [[2]], {}]]), "not one that may be compiled"),
        (graph(operations=[["aten.nonzero.default", [{"value": 0}], {}]]), "not one that may be compiled"),
        (graph(operations=[["aten.full.default", [[10**12], 0.0], {}]]), "yields a tensor of shape"),
        (graph(operations=[["aten.mul.Tensor", [{"value": 0}, 2.0], {}]] * 20_001), "20001 operations"),
        (graph(operations=[["aten.mm.default", [{"value": 0}, {"value": 1}], {}]]), "not sound"),
        (graph(operations=[["aten.full.default", [[2], 0.0], {"device": "cuda"}]]), "names a device"),
        (graph(operations=[["aten.gelu.default", [{"value": 0}], {"approximate": '"; system("id");'}]]), "is unknown"),
        (graph(operations=[["aten.neg.default", [{"value": 7}], {}]]), "an argument is"),
        (graph(operations=[["aten.neg.default", [{"value": True}], {}]]), "an argument is"),
        (graph(inputs=[["float32", [2**40]]]), "has the shape"),
        (graph(inputs=[["float32", [-1]]]), "has the shape"),
        (graph(inputs=[["float32", [2**28]]] * 3), "inputs are too large"),
        (graph(inputs=[["object", [2, 3]], ["int64", [2]]]), "dtype 'object' is unknown"),
        (graph(results=[{"value": 99}]), "an argument is"),
        (graph(results=5), "not sound"),
        ("[" * 100_000, "not sound"),
        ("{" + " " * 2**24 + "}", "characters"),
        ("not JSON", "not sound"),
    ],
)
def test_a_hostile_graph_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(portable.RefusedError, match=sentence):
        portable.read(text)


def long_runs(stats: Path, folder: Path, **changes: Any) -> list[tuple[RunSpec, Path]]:
    """Return runs that differ in seed and learning rate."""
    return [
        (make_spec(stats, STANDARD, seed=seed, learning_rate=1e-3 * (1 + seed), **changes), folder / f"run_{seed}")
        for seed in range(RUNS)
    ]


def test_only_long_stacks_are_considered(stats: Path, tmp_path: Path) -> None:
    assert compiling.considered(long_runs(stats, tmp_path, steps=1_000))
    assert not compiling.considered(long_runs(stats, tmp_path, steps=999))
    assert not compiling.considered(long_runs(stats, tmp_path, steps=10_000)[:3])
    assert not compiling.considered(long_runs(stats, tmp_path, steps=10_000, precision="bfloat16"))
    on_gpu = long_runs(stats, tmp_path, steps=10_000, precision="bfloat16", device="cuda")
    assert [compiling.considered(on_gpu[:count]) for count in (1, 2, 4)] == [True, False, True]


def test_a_stack_too_short_to_repay_compiling_is_not_traced(stats: Path, tmp_path: Path) -> None:
    specs, folders = zip(*long_runs(stats, tmp_path, steps=1_000), strict=True)
    with pytest.raises(UserError, match=r"not repaid by 4 runs of 1000 steps, .* ms compiled after"):
        ensemble.trace_many([*specs], [*folders], tmp_path)
    assert not list(tmp_path.glob(compiled.GRAPH))


def test_without_a_compiler_one_sentence_says_so(
    stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    step = compiling.compiled_step(long_runs(stats, tmp_path, steps=10_000), [], tmp_path / "compiled")
    assert step == compiling.Step(None, "not compiled: this machine has no C++ compiler")
    assert "this machine has no C++ compiler" in caplog.text
    assert not (tmp_path / "compiled").exists()


def test_a_compilers_process_starts_programs_and_sees_nothing_of_the_user(tmp_path: Path) -> None:
    script, scratch = tmp_path / "script.py", tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "secret").write_text("secret")
    script.write_text(
        textwrap.dedent(f"""
        import shutil, subprocess
        secret, own = {str(tmp_path / "secret")!r}, {str(scratch / "own")!r}
        def tried(*command):
            try:
                return subprocess.run(command).returncode
            except OSError:
                return "refused"
        shutil.copy("/usr/bin/true", own)
        print(tried("/usr/bin/true"), tried("/usr/bin/cat", secret), tried(own))
        """)
    )
    result = sandbox.run(
        [str(script)],
        readable=[script],
        scratch=scratch,
        settings=Sandbox(),
        seconds=60,
        without=frozenset({"seccomp"}),
        programs=["/usr", "/lib", "/lib64"],
    )
    assert result.stdout.split() == [b"0", b"1", b"refused"], result.stderr


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_compiled_runs_equal_runs_alone(
    dtype: torch.dtype, tolerance: float, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    compiled.trace(Stack(make_trainers(STANDARD, dtype)), BATCHES[0], tmp_path)
    compiling.fetch_library((tmp_path / compiled.GRAPH).read_text(), "/usr/bin/g++", Sandbox(), EXECUTION, tmp_path)
    ours, theirs = curves(Compiled(Stack(make_trainers(STANDARD, dtype)), tmp_path), make_trainers(STANDARD, dtype))
    assert (ours - theirs).abs().max() < tolerance


@pytest.mark.slow
def test_a_killed_compiled_stack_ends_with_the_same_bytes(
    stats: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Through the sandbox: trace, compile, train; the second start finds the library, as does a resume after a kill."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    lengths = {"steps": 36_000, "every": 12_000, "checkpoint_every": 1_000, "layers": 1}
    summaries = train_all_contained(long_runs(stats, tmp_path / "whole", **lengths))
    assert [summary["status"] for summary in summaries] == ["finished"] * RUNS
    timing = read_json(tmp_path / "whole/run_0/timing.json", "timing")
    assert timing["tier"] == "stacked, compiled"
    assert "ms compiled after" in timing["why"]
    assert not (tmp_path / "whole/run_0/compiled").exists()

    script = tmp_path / "victim.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path[:0] = {[str(Path(__file__).parent)]!r}
        from pathlib import Path
        from test_training_compiled import long_runs, train_all_contained
        train_all_contained(long_runs(Path({str(stats)!r}), Path({str(tmp_path / "killed")!r}), **{lengths!r}))
        """)
    )
    with subprocess.Popen([sys.executable, str(script)], env={**os.environ, "OMP_NUM_THREADS": "1"}) as victim:
        checkpoints = tmp_path / "killed/run_0/checkpoint"
        while victim.poll() is None and not list(checkpoints.glob("step_*")):
            time.sleep(0.01)
        victim.send_signal(signal.SIGKILL)
    assert list(checkpoints.glob("step_*"))
    assert not (tmp_path / "killed/run_0/summary.json").exists()
    with caplog.at_level(logging.INFO):
        train_all_contained(long_runs(stats, tmp_path / "killed", **lengths))
    timing = read_json(tmp_path / "killed/run_0/timing.json", "timing")
    assert timing["sessions"] == 2
    assert "compiled by an earlier job" in timing["why"]
    for run in range(RUNS):
        for name in ("summary.json", "curve.parquet", "model.safetensors"):
            ours, theirs = (tmp_path / place / f"run_{run}" / name for place in ("killed", "whole"))
            assert ours.read_bytes() == theirs.read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "member"), MEMBERS)
def test_every_member_is_compiled_exactly_or_refused(
    framework: str, member: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused by name where an operation may not be compiled; otherwise forty steps equal those of the runs alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    path = library.gallery(framework)[member]
    trainers = [make_trainers(path, torch.float32, layers=1) for _ in range(3)]
    if member in REFUSED:
        with pytest.raises(portable.RefusedError, match=REFUSED[member]):
            compiled.trace(Stack(trainers[0]), BATCHES[0], tmp_path)
        return
    compiled.trace(Stack(trainers[0]), BATCHES[0], tmp_path)
    compiling.fetch_library((tmp_path / compiled.GRAPH).read_text(), "/usr/bin/g++", Sandbox(), EXECUTION, tmp_path)
    ours, theirs = curves(Compiled(Stack(trainers[1]), tmp_path), trainers[2])
    assert (ours[:, 0] - theirs[:, 0]).abs().max() < 1e-4
