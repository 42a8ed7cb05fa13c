"""The sandbox: run first-party code that executes a candidate in a process of its own that can reach almost nothing.

Layers: a clean environment, closed descriptors and an empty standard input; resource limits and a watchdog over memory,
threads and wall time; no new privileges and no capabilities; Landlock for files and TCP; seccomp for processes, sockets
and signals. None needs root or namespaces. Each layer that the machine lacks is recorded in the result, and
`sandbox.require` makes its absence an error. The child dies with this process, however this process ends.

    result = run(["-m", "evomix", "train-worker", str(spec)], readable=[corpus, spec], scratch=run_folder,
                 settings=config.sandbox, seconds=3600, stream=True)
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evomix.errors import UserError
from evomix.gate.channel import Channel, Conversation
from evomix.gate.supervise import Supervisor, handing_on_signals
from evomix.settings import Sandbox

_PACKAGE = Path(__file__).resolve().parents[1]
_PASSED = ("PATH", "LANG", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "EVOMIX_THREADS")


@dataclass
class SandboxResult:
    """How a sandboxed process ended."""

    returncode: int
    """Exit status; −n when signal n ended it."""
    layers: dict[str, str]
    """Layer → `active…` or `absent: why`."""
    seconds: float
    peak_memory: int
    """Bytes of private resident memory, as sampled by the watchdog."""
    stopped: str | None
    """`time`, `memory` or `threads` when the sandbox killed it, `signal N` when we were told to stop, else None."""
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)
    """The last 64 KiB of each stream, control characters removed."""


def environment(scratch: Path, gpu: bool) -> dict[str, str]:
    """Return the child's whole environment: a short allow-list of ours, and a home in `scratch`."""
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = {"CUDA_VISIBLE_DEVICES": devices} if gpu and devices is not None else {}
    hidden = {} if gpu else {"CUDA_VISIBLE_DEVICES": ""}
    home = {"HOME": str(scratch), "TMPDIR": str(scratch), "USER": "evomix"}  # torch asks for a name: no list of users
    return {**home, "PYTHONHASHSEED": "0", **passed, **visible, **hidden}


def run(
    arguments: Sequence[str],
    *,
    readable: Sequence[Path],
    scratch: Path,
    settings: Sandbox,
    seconds: float,
    cpu_seconds: float | None = None,
    stream: bool = False,
    gpu: bool = False,
    grace: float = 120.0,
    file_gb: float = 8.0,
    without: frozenset[str] = frozenset(),
    programs: Sequence[str] = (),
    converse: Conversation | None = None,
) -> SandboxResult:
    """Run `python ARGUMENTS` (`["-m", "module", …]` or `["script.py", …]`) confined, and wait for it.

    The interpreter starts isolated (`-s -P` and a clean environment: what `-I` does, but with a fixed hash seed). The
    child reads the interpreter, the packages, evomix and `readable` (files or folders) and writes only beneath
    `scratch`, its home; relative paths mean what they mean to us. `stream` copies its standard error to ours as it
    comes (as a terminal if ours is one, so progress bars work). SIGTERM and SIGINT to us become SIGTERM to the child,
    which gets `grace` seconds to write its checkpoint. After `seconds` of wall time, `cpu_seconds` of CPU time (by
    default what all cores spend meanwhile), or over the memory limit, it is killed. `gpu` opens the NVIDIA devices.
    `converse` talks to the child through two pipes, whose descriptors are appended to `arguments` (read, write).
    `without` leaves layers out, to show what each contributes. `programs` are folders whose programs may be started,
    which needs `without` seccomp: for first-party code that meets no candidate.

    Raises UserError when a layer in `settings.require` is absent; the target has not run then.
    """
    scratch = Path(scratch).resolve()
    if not scratch.is_dir():
        raise UserError(f"the sandbox's scratch folder {scratch} does not exist; create it first")
    memory = int(settings.memory_gb * 2**30)
    policy = {
        "parent": os.getpid(),
        "source": str(_PACKAGE.parent),
        "readable": [*(str(Path(path).resolve()) for path in readable), str(_PACKAGE)],
        "writable": [str(scratch)],
        "programs": list(programs),
        "memory": memory + 8 * 2**30 * gpu,  # the CUDA runtime reserves host memory that is never resident
        "file": int(file_gb * 2**30),
        "cpu": int(cpu_seconds or seconds * (os.cpu_count() or 1) + 60),
        "gpu": gpu,
        "require": list(settings.require),
        "skip": sorted(without),
    }
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        channel = Channel(converse) if converse else None
        if channel:
            stack.callback(channel.close)
            arguments = [*arguments, *map(str, channel.theirs)]
        report, reporting = os.pipe()
        stack.callback(os.close, report)
        ours, theirs = _terminal() if stream and sys.stderr.isatty() else os.pipe()
        stack.callback(os.close, ours)
        start = [sys.executable, "-s", "-P", "-B", str(_PACKAGE / "gate" / "confine.py")]
        try:
            process = subprocess.Popen(
                [*start, json.dumps({**policy, "report": reporting}), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=theirs,
                env=environment(scratch, gpu),
                pass_fds=(reporting, *(channel.theirs if channel else ())),
                start_new_session=True,
            )
        finally:
            os.close(reporting)
            os.close(theirs)
        assert process.stdout is not None
        stack.enter_context(process.stdout)
        supervisor = Supervisor(process, seconds, memory, grace)
        with handing_on_signals(supervisor):
            if channel:
                channel.start()
            shown = {"stderr": sys.stderr.buffer} if stream else {}
            kept = supervisor.collect({"report": report, "stdout": process.stdout.fileno(), "stderr": ours}, shown)
        if channel:
            channel.join()
    _open_modes(scratch)
    layers = _layers(kept["report"])
    for name in settings.require:
        if supervisor.stopped is None and not layers.get(name, "").startswith("active"):
            raise UserError(
                f"this machine lacks the sandbox layer {name} ({layers.get(name, 'no report')}); run where it exists "
                "or take it out of `sandbox.require`"
            )
    return SandboxResult(
        returncode=process.returncode,
        layers=layers,
        seconds=time.monotonic() - started,
        peak_memory=supervisor.peak_memory,
        stopped=supervisor.stopped,
        stdout=kept["stdout"],
        stderr=kept["stderr"],
    )


def _open_modes(scratch: Path) -> None:
    """Give the files that the child made the usual mode: its own calls that set modes do nothing (see `syscalls`)."""
    umask = os.umask(0)
    os.umask(umask)
    for folder, _, names in os.walk(scratch):
        for name in names:
            path = os.path.join(folder, name)
            try:
                state = os.lstat(path)
            except FileNotFoundError:  # another sandbox at work beside this one has renamed it
                continue
            if stat.S_ISREG(state.st_mode) and state.st_nlink == 1 and stat.S_IMODE(state.st_mode) == 0o600:
                with contextlib.suppress(FileNotFoundError):
                    os.chmod(path, 0o666 & ~umask)


def _terminal() -> tuple[int, int]:
    """Open a pseudo-terminal of our terminal's size: what the child shows reaches us, what it types reaches nobody."""
    ours, theirs = os.openpty()
    size = fcntl.ioctl(sys.stderr.fileno(), termios.TIOCGWINSZ, bytes(8))
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
    return ours, theirs


def _layers(report: bytes) -> dict[str, str]:
    """Return the child's report of its layers, written before it ran anything; empty when it never came so far."""
    try:
        content = json.loads(report)
    except ValueError:
        return {}
    return {str(name): str(state) for name, state in content.items()} if isinstance(content, dict) else {}
