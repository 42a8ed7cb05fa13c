"""Compiled steps for a stack: traced in the candidate's sandbox, compiled outside of it, kept for later jobs.

Nothing that runs a candidate may start a program, and a compiler is one. So a first sandboxed process traces the step
and leaves its graph as plain data; a second, which never sees the candidate, reads it against `portable`'s rules and
compiles it, confined like the first except that compilers may be started; the training then loads the library.
Libraries are kept between jobs by what decides their bytes: graph, torch, compiler, processor.

Whether it is worth it is decided from counts, as for stacking: compiling costs about as many CPU seconds as the graph
has operations, and so does an eager step, hence a number of steps after which it is repaid, whatever the machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from evomix.artifacts import atomic_path, digest_file
from evomix.errors import UserError
from evomix.gate import sandbox
from evomix.settings import Sandbox
from evomix.specs import RunSpec
from evomix.training.groups import unlike
from evomix.training.preemption import EXIT_CODE

logger = logging.getLogger(__name__)

FEWEST_STEPS = 10_000
"""Steps from which compiling is repaid even by few runs without a kept library: ten tiny runs repay its 54 to 75 CPU
seconds after 1,700 steps against runs one after another, after 5,200 to 7,000 against the eager stack, four after about
10,000 (tests/benchmarks/compiled.py, on a busy machine)."""

_SYSTEM = ("/usr", "/bin", "/lib", "/lib64")
_LARGEST_GRAPH = 2**24
_SECONDS = 3600.0
_CPU_SECONDS = 1200.0
"""Limits of one compilation: wall time only stops what hangs, so that a busy machine decides nothing."""


@dataclass(frozen=True)
class Step:
    """A compiled step ready to be loaded from `folder`, or none; `sentence` says how it came about, or why not."""

    folder: Path | None
    sentence: str

    def options(self) -> list[str]:
        """Return what the training's command line says of it."""
        return [*([] if self.folder is None else ["--compiled", str(self.folder)]), "--origin", self.sentence]


def considered(runs: Sequence[tuple[RunSpec, Path]]) -> bool:
    """Return whether compiling is tried at all: long float32 runs on a CPU, and enough of them for a stack."""
    first = runs[0][0]
    plain = first.execution.device == "cpu" and first.execution.precision == "float32"
    return plain and first.optimisation.steps >= FEWEST_STEPS and unlike([spec for spec, _ in runs]) is None


def cache_folder() -> Path:
    """Return the folder of compiled steps, shared by all studies of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evomix" / "compiled"


def compiled_step(runs: Sequence[tuple[RunSpec, Path]], readable: Sequence[Path], folder: Path) -> Step:
    """Trace and compile the stacked step of `runs` into the fresh `folder`, which is gone where it cannot be.

    A candidate's code runs in the tracing sandbox only. Raises SystemExit when asked to stop meanwhile.
    """
    settings = runs[0][0].sandbox
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    reason = "this machine has no C++ compiler" if compiler is None else None
    if compiler is not None:
        result = sandbox.run(
            ["-m", "evomix", "trace-worker", str(folder), *(str(place) for _, place in runs)],
            readable=[*readable, *(place for _, place in runs)],
            scratch=folder,
            settings=settings,
            seconds=_SECONDS,
        )
        reason = _failure(result)
    if reason is None and compiler is not None:
        try:
            text = _graph(folder / "step.json")
            found, seconds = _library(text, compiler, settings)
            with open(found, "rb") as kept, open(folder / found.name, "xb") as own:  # never through a planted link
                shutil.copyfileobj(kept, own)
            return Step(folder, f"compiled in {seconds:.0f} s of CPU time" if seconds else "compiled by an earlier job")
        except (UserError, FileExistsError) as error:
            reason = str(error)
    logger.warning("%s: its steps are not compiled (%s)", runs[0][0].mechanism.path, reason)
    shutil.rmtree(folder)
    return Step(None, f"not compiled: {reason}")


def _failure(result: sandbox.SandboxResult) -> str | None:
    """Return in words why a worker failed, or None; SystemExit when it was we who were asked to stop."""
    if result.stopped is not None and result.stopped.startswith("signal"):
        raise SystemExit(EXIT_CODE)
    if result.returncode == 0:
        return None
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    if result.stopped is not None:
        return f"over its limit of {result.stopped}"
    return lines[-1][:300].removeprefix("error: ") if lines else f"status {result.returncode}"


def _graph(path: Path) -> str:
    """Return the text that the tracing sandbox left."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as stream:
            text = stream.read(_LARGEST_GRAPH + 1)
    except OSError as error:
        raise UserError(f"no graph was left: {error.strerror}") from None
    if len(text) > _LARGEST_GRAPH:
        raise UserError(f"the graph's text is longer than {_LARGEST_GRAPH} bytes")
    return text.decode(errors="replace")


def _key(text: str, compiler: str) -> str:
    """Return the identity of a library: whatever decides its machine code."""
    told = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    processor = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    parts = (text, version("torch"), told, platform.machine(), *processor, digest_file(Path(__file__)))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _kept(folder: Path, key: str) -> Path | None:
    """Return the kept library of a key; a damaged one (its name carries its digest) is removed and said."""
    for path in folder.glob(f"{key}.*.so"):
        if digest_file(path)[:32] == path.name.split(".")[1]:
            return path
        logger.warning("compiled step %s is damaged; it is compiled again", path)
        path.unlink(missing_ok=True)
    return None


@contextlib.contextmanager
def _alone(folder: Path, key: str) -> Iterator[None]:
    """Let one job at a time compile a key: the others find its result. Without locks all of them compile."""
    with open(folder / f"{key}.lock", "w") as handle:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _library(text: str, compiler: str, settings: Sandbox) -> tuple[Path, float]:
    """Return the kept library of a graph, compiled if need be, and the CPU seconds that this took (0 when kept)."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}; set XDG_CACHE_HOME to a writable folder") from None
    key = _key(text, compiler)
    with _alone(folder, key):
        if (found := _kept(folder, key)) is not None:
            return found, 0.0
        before = _children_seconds()
        with tempfile.TemporaryDirectory(prefix="evomix-compile-") as place:
            made = _compile(text, compiler, Path(place), settings)
            target = folder / f"{key}.{digest_file(made)[:32]}.so"
            with atomic_path(target) as temporary:
                shutil.copyfile(made, temporary)
        return target, _children_seconds() - before


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _compile(text: str, compiler: str, place: Path, settings: Sandbox) -> Path:
    """Compile a graph in a process that may start compilers but reads only system, packages and `place`."""
    (place / "step.json").write_text(text, encoding="utf-8")
    result = sandbox.run(
        ["-m", "evomix", "compile-worker", str(place / "step.json"), str(place / "step.so"), "--compiler", compiler],
        readable=[],
        scratch=place,
        settings=settings.model_copy(update={"require": [name for name in settings.require if name != "seccomp"]}),
        seconds=_SECONDS,
        cpu_seconds=_CPU_SECONDS,
        without=frozenset({"seccomp"}),
        programs=[*_SYSTEM, sys.prefix, sys.base_prefix, str(Path(compiler).resolve().parents[1])],
    )
    reason = _failure(result)
    made = place / "step.so"
    if reason is not None or made.is_symlink() or not made.is_file():
        raise UserError(reason or "the compiler left no library")
    return made


def compile_graph(text: str, output: Path, compiler: str) -> None:
    """Compile the graph `text` into the shared library `output`: runs in the confined process that holds no candidate.

    RefusedError when the text is not a graph that `portable.read` takes.
    """
    os.environ |= {"CXX": compiler, "TORCHINDUCTOR_CACHE_DIR": str(output.parent / "inductor"), "USER": "compiler"}
    import torch

    from evomix.training import portable

    module, inputs = portable.read(text)
    import torch._inductor

    # torch asks the processor itself for its vector instructions; trying each with a program costs more than compiling.
    options = {"cpp.threads": 1, "compile_threads": 1, "cpp.vec_isa_ok": True}
    with torch.no_grad():
        made = torch._inductor.aot_compile(module, tuple(inputs), options=options)
    shutil.move(str(made), output)
