"""Compiled steps for a stack: traced in the candidate's sandbox, compiled outside of it, kept for later jobs.

Nothing that runs a candidate may start a program, and a compiler is one. So a first sandboxed process traces the step
and leaves its graph as plain data; a second, which never sees the candidate, reads it against `portable`'s rules and
compiles it, confined like the first except that compilers may be started; the training then loads the library.
Libraries are kept between jobs by what decides their bytes: graph, torch, compiler, processor.

Whether it is repaid by the length of the runs follows from measured step times, as for stacking (`step_times`).
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
from typing import Any

from evomix.artifacts import atomic_path, digest_file, write_text
from evomix.errors import UserError
from evomix.fingerprint import fingerprint
from evomix.gate import sandbox
from evomix.settings import Sandbox
from evomix.specs import Execution, RunSpec
from evomix.training.groups import compilable, job_threads
from evomix.training.preemption import EXIT_CODE

logger = logging.getLogger(__name__)

FEWEST_STEPS = 1_000
"""Steps below which nothing is traced to find out: no stack that was measured repays its compiling earlier."""

MOST_BYTES_KEPT = 2**30
"""Size of all kept libraries together, of half a megabyte or so each, beyond which the least recently used go."""

_SYSTEM = ("/usr", "/bin", "/lib", "/lib64")
_LARGEST_GRAPH = 2**24
_SECONDS = 3600.0
_CPU_SECONDS = 1200.0
"""Limits of one compilation: wall time only stops what hangs, so that a busy machine decides nothing."""


class _CannotCompileError(UserError):
    """The compiler refuses a graph, and would again: later jobs need not ask."""


@dataclass(frozen=True)
class Step:
    """A compiled step ready to be loaded from `folder`, or none; `sentence` says how it came about, or why not."""

    folder: Path | None
    sentence: str

    def options(self) -> list[str]:
        """Return what the training's command line says of it."""
        return [*([] if self.folder is None else ["--compiled", str(self.folder)]), "--origin", self.sentence]


def considered(runs: Sequence[tuple[RunSpec, Path]]) -> bool:
    """Return whether compiling is tried at all: long runs, as a stack in float32 on a CPU, or alone too on a GPU."""
    specs = [spec for spec, _ in runs]
    return specs[0].optimisation.steps >= FEWEST_STEPS and compilable(specs)


def cache_folder() -> Path:
    """Return the folder of compiled steps, shared by all studies of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evomix" / "compiled"


def compiled_step(runs: Sequence[tuple[RunSpec, Path]], readable: Sequence[Path], folder: Path) -> Step:
    """Trace and compile the stacked step of `runs` into the fresh `folder`, which is gone where it cannot be.

    A candidate's code runs in the tracing sandbox only. Raises SystemExit when asked to stop meanwhile.
    """
    first = runs[0][0]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    reason = "this machine has no C++ compiler" if compiler is None else None
    level = logging.WARNING
    if compiler is not None:
        result = sandbox.run(
            ["-m", "evomix", "trace-worker", str(folder), *(str(place) for _, place in runs)],
            readable=[*readable, *(place for _, place in runs)],
            scratch=folder,
            settings=first.sandbox,
            seconds=_SECONDS,
            gpu=first.execution.device == "cuda",
        )
        reason = _failure(result)
        level = logging.INFO if reason else level
    if reason is None and compiler is not None:
        try:
            text = _graph(folder / "step.json")
            seconds = fetch_library(text, compiler, first.sandbox, first.execution, folder)
            return Step(folder, f"compiled in {seconds:.0f} s of CPU time" if seconds else "compiled by an earlier job")
        except (UserError, FileExistsError) as error:
            reason = str(error)
    logger.log(level, "%s: its steps are not compiled (%s)", first.mechanism.path, reason)
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


def _key(text: str, compiler: str, execution: Execution) -> str:
    """Return the identity of a library: whatever decides its machine code."""
    told = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    parts = (text, version("torch"), told, platform.machine(), *_processor(execution.device))
    parts = (*parts, execution.device, str(execution.deterministic), fingerprint(__name__))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _processor(device: str) -> list[str]:
    """Return what the system says of the processor, and of the GPUs where they compute."""
    files = [Path("/proc/cpuinfo")]
    if device == "cuda":
        files += Path("/proc/driver/nvidia/gpus").glob("*/information")
    told = {"model name", "flags", "Features", "CPU part", "Model"}
    lines = [line for path in files if path.is_file() for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted({line for line in lines if line.split(":")[0].strip() in told})


def _kept(folder: Path, key: str) -> Path | None:
    """Return the kept library of a key; a damaged one (its name carries its digest) is removed and said."""
    for path in folder.glob(f"{key}.*.compiled"):
        if digest_file(path)[:32] == path.name.split(".")[1]:
            return path
        logger.warning("compiled step %s is damaged; it is compiled again", path)
        path.unlink(missing_ok=True)
    return None


@contextlib.contextmanager
def _alone(folder: Path, key: str, *, wait: bool) -> Iterator[bool]:
    """Let one job at a time make, take or remove the library of a key; yield whether it is this one.

    Only without `wait` may another be at it. On a file system without locks all of them compile and nothing is removed.
    """
    path = folder / f"{key}.lock"
    while True:
        with open(path, "w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError:
                yield wait
                return
            if _same_file(handle.fileno(), path):  # else it was removed while this job waited for it
                yield True
                return


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def fetch_library(text: str, compiler: str, settings: Sandbox, execution: Execution, place: Path) -> float:
    """Put the library of a graph, compiled unless it was kept, into `place`; return what compiling took.

    CPU seconds, 0 when it was kept. UserError when it cannot be compiled or kept.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}; set XDG_CACHE_HOME to a writable folder") from None
    key = _key(text, compiler, execution)
    before = _children_seconds()
    refused = folder / f"{key}.refused"
    with _alone(folder, key, wait=True):
        if refused.is_file():
            raise UserError(f"{refused.read_text(encoding='utf-8')} ({refused})")
        made = (found := _kept(folder, key)) is None
        if found is None:
            with tempfile.TemporaryDirectory(prefix="evomix-compile-") as workshop:
                try:
                    fresh = _compile(text, compiler, Path(workshop), settings, execution)
                except _CannotCompileError as error:
                    write_text(refused, str(error))
                    raise
                found = folder / f"{key}.{digest_file(fresh)[:32]}.compiled"
                with atomic_path(found) as temporary:
                    shutil.copyfile(fresh, temporary)
        for stale in folder.glob(f".{key}.*"):  # a killed job left it
            stale.unlink()
        os.utime(found)
        with open(found, "rb") as kept, open(place / found.name, "xb") as own:  # never through a planted link
            shutil.copyfileobj(kept, own)
    _prune(folder)
    return _children_seconds() - before if made else 0.0


def _prune(folder: Path) -> None:
    """Remove the libraries whose last use is longest ago until MOST_BYTES_KEPT suffice; never one that is in use."""
    entries = []
    for path in folder.glob("*.compiled"):
        with contextlib.suppress(FileNotFoundError):
            entries.append((path.stat().st_mtime_ns, path.stat().st_size, path))
    excess = sum(size for _, size, _ in entries) - MOST_BYTES_KEPT
    for _, size, path in sorted(entries):
        if excess <= 0:
            return
        key = path.name.split(".")[0]
        with _alone(folder, key, wait=False) as mine:
            if mine:
                path.unlink(missing_ok=True)
                (folder / f"{key}.lock").unlink(missing_ok=True)
                excess -= size


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _compile(text: str, compiler: str, place: Path, settings: Sandbox, execution: Execution) -> Path:
    """Compile a graph in a process that may start compilers but reads only system, packages and `place`."""
    (place / "step.json").write_text(text, encoding="utf-8")
    worker = ["-m", "evomix", "compile-worker", str(place / "step.json"), str(place / "step.compiled")]
    options = ["--compiler", compiler, "--device", execution.device]
    options += ["--deterministic"] if execution.deterministic else []
    result = sandbox.run(
        [*worker, *options],
        readable=[],
        scratch=place,
        settings=settings.model_copy(update={"require": [name for name in settings.require if name != "seccomp"]}),
        seconds=_SECONDS,
        cpu_seconds=_CPU_SECONDS,
        gpu=execution.device == "cuda",
        without=frozenset({"seccomp"}),
        programs=[*_SYSTEM, sys.prefix, sys.base_prefix, str(Path(compiler).resolve().parents[1])],
    )
    reason = _failure(result)
    made = place / "step.compiled"
    if reason is not None and result.stopped is None and result.returncode > 0 and "out of memory" not in reason:
        raise _CannotCompileError(reason)
    if reason is not None or made.is_symlink() or not made.is_file():
        raise UserError(reason or "the compiler left no library")
    return made


def compile_graph(text: str, output: Path, compiler: str, device: str, *, deterministic: bool) -> None:
    """Compile the graph `text` into the library `output`: runs in the confined process that holds no candidate.

    RefusedError when the text is not a graph that `portable.read` takes.
    """
    cache = output.parent / "inductor"
    os.environ |= {"CXX": compiler, "TORCHINDUCTOR_CACHE_DIR": str(cache)}
    os.environ |= {"TRITON_CACHE_DIR": str(cache / "triton"), "TORCHINDUCTOR_USE_FAST_TRITON_LAUNCHER": "0"}
    import torch

    from evomix.training import launches, portable
    from evomix.training.device import open_device

    open_device(device, deterministic)
    module, inputs = portable.read(text, device)
    import torch._inductor

    if device == "cuda":
        # No order of summing is chosen by timing it, and every kernel can be launched without its compiler. (The fast
        # launcher, off above, goes past the function whose calls are recorded.)
        options: dict[str, Any] = {"deterministic": True, "strict_static_cuda_launcher": True}
        options["compile_threads"] = job_threads()
        launches.record(lambda: torch._inductor.compile(module, [*inputs], options=options), inputs, output)
        return
    # torch asks the processor itself for its vector instructions; trying each with a program costs more than compiling.
    options = {"cpp.threads": 1, "compile_threads": 1, "cpp.vec_isa_ok": True}
    with torch.no_grad():
        made = torch._inductor.aot_compile(module, tuple(inputs), options=options)
    shutil.move(str(made), output)
