"""The sandbox: what a confined process can reach, what stops it, and that nothing of it outlives us."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from evomix.errors import UserError
from evomix.gate import sandbox
from evomix.gate.syscalls import build_filter
from evomix.settings import Sandbox

BREAKOUT = Path(__file__).parent / "programs" / "hostile" / "breakout.py"
UMASK = os.umask(0)
os.umask(UMASK)
ALLOWED_WITHOUT = {
    "landlock": {"read a file of the user", "read /etc/passwd", "write outside", "list the root folder"},
    "seccomp": {"fork", "send by UDP", "socket pair", "memory file", "outlive the launcher"},
}


def attempt(tmp_path: Path, without: frozenset[str] = frozenset()) -> tuple[dict[str, bool], dict[str, str]]:
    """Run every break-out attempt in the sandbox; return which succeeded, and the layers."""
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    (home / "secret").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = [str(os.getpid()), str(server.getsockname()[1]), str(home / "secret"), str(home)]
        result = sandbox.run(
            [str(BREAKOUT), *arguments],
            readable=[BREAKOUT],
            scratch=scratch,
            settings=Sandbox(memory_gb=1),
            seconds=60,
            without=without,
        )
    assert result.returncode == 0, result.stderr.decode()
    return json.loads(result.stdout), result.layers


def run_script(tmp_path: Path, text: str, seconds: float = 30, **more: object) -> sandbox.SandboxResult:
    """Run a few lines of Python in the sandbox."""
    script, scratch = tmp_path / "script.py", tmp_path / "scratch"
    script.write_text(textwrap.dedent(text))
    scratch.mkdir(exist_ok=True)
    settings = Sandbox(memory_gb=0.5)
    return sandbox.run([str(script)], readable=[script], scratch=scratch, settings=settings, seconds=seconds, **more)  # type: ignore[arg-type]


def test_nothing_of_the_attempts_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVOMIX_SECRET", "key")
    found, layers = attempt(tmp_path)
    missing = [name for name, state in layers.items() if not state.startswith("active")]
    if missing:
        pytest.skip(f"this machine lacks {missing}")
    assert len(found) >= 45
    assert not [name for name, succeeded in found.items() if succeeded]


@pytest.mark.parametrize("layer", ["landlock", "seccomp"])
def test_each_layer_is_needed(tmp_path: Path, layer: str) -> None:
    found, layers = attempt(tmp_path, frozenset({layer}))
    assert layers[layer] == "skipped by the caller"
    assert {name for name, succeeded in found.items() if succeeded} >= ALLOWED_WITHOUT[layer]


ORDINARY = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_gate_sandbox
found, layers = test_gate_sandbox.attempt(Path(sys.argv[2]))
print(json.dumps([os.getuid(), layers, [name for name, succeeded in found.items() if succeeded]]))
"""


def test_an_ordinary_user_is_as_well_confined() -> None:
    """As root, become nobody (keeping only the right to read the interpreter, wherever it lies) and try again."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv to become an ordinary user; the other tests ran as one if not root")
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 65534, 65534)
        become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        command = [*become, *reading, sys.executable, "-B", "-c", ORDINARY, str(Path(__file__).parent), folder]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    user, layers, succeeded = json.loads(result.stdout)
    assert user == 65534
    if not all(state.startswith("active") for state in layers.values()):
        pytest.skip(f"this machine has {layers}")
    assert succeeded == []


def test_the_sandbox_passes_work_through(tmp_path: Path) -> None:
    result = run_script(
        tmp_path,
        """
        import os, sys, threading
        from pathlib import Path
        Path(os.environ["HOME"], "out.txt").write_text("written")
        os.chmod(os.open(Path(os.environ["HOME"], "private"), os.O_CREAT, 0o600), 0o644)
        worker = threading.Thread(target=lambda: print("from a thread"))
        worker.start(); worker.join()
        print("to stderr \\x1b]0;title\\x07", file=sys.stderr)
        print(sorted(os.environ))
        sys.exit(3)
        """,
    )
    assert result.returncode == 3
    assert (tmp_path / "scratch" / "out.txt").read_text() == "written"
    assert (tmp_path / "scratch" / "private").stat().st_mode & 0o777 == 0o666 & ~UMASK
    assert b"from a thread" in result.stdout
    assert b"\x1b" not in result.stderr
    assert "PYTHONPATH" not in result.stdout.decode()
    assert result.stopped is None


SLEEP = "import time; time.sleep(60)"
MAPPED = f"import mmap; m = mmap.mmap(-1, 3 << 28)\nfor _ in range(3 << 8): m.write(b'x' * (1 << 20))\n{SLEEP}"
THREADS = """
import threading, time
threading.stack_size(1 << 16)
for _ in range(600):
    threading.Thread(target=time.sleep, args=(60,)).start()
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("while True: pass", "time"),
        ("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass", "time"),
        (f"x = bytearray(1 << 29); {SLEEP}", None),
        (MAPPED, "memory"),
        (THREADS, "threads"),
    ],
)
def test_limits_stop_it(tmp_path: Path, text: str, reason: str | None) -> None:
    started = time.monotonic()
    result = run_script(tmp_path, text, seconds=3 if reason == "time" else 30)
    assert result.stopped == reason
    assert result.returncode != 0
    assert time.monotonic() - started < 25


def test_a_flood_of_output_is_cut(tmp_path: Path) -> None:
    result = run_script(tmp_path, "for i in range(200000): print('x' * 100)")
    assert result.returncode == 0
    assert len(result.stdout) == 1 << 16


def test_large_files_are_refused(tmp_path: Path) -> None:
    text = "import os\nwith open(os.environ['HOME'] + '/big', 'wb') as f:\n    f.truncate(1 << 26)"
    result = run_script(tmp_path, text, file_gb=0.01)
    assert result.returncode != 0
    assert (tmp_path / "scratch" / "big").stat().st_size == 0


def test_required_layers_are_an_error_when_absent(tmp_path: Path) -> None:
    marker = tmp_path / "scratch" / "ran"
    script = tmp_path / "script.py"
    script.write_text(f"open({str(marker)!r}, 'w')")
    (tmp_path / "scratch").mkdir()
    with pytest.raises(UserError, match="lacks the sandbox layer seccomp"):
        sandbox.run(
            [str(script)],
            readable=[script],
            scratch=tmp_path / "scratch",
            settings=Sandbox(require=["rlimits", "seccomp"]),
            seconds=20,
            without=frozenset({"seccomp"}),
        )
    assert not marker.exists()
    with pytest.raises(UserError, match="does not exist"):
        sandbox.run(["x.py"], readable=[], scratch=tmp_path / "nowhere", settings=Sandbox(), seconds=1)


CHILD = """
import os, signal, sys, time
from pathlib import Path
home = Path(os.environ["HOME"])
def stop(*_):
    (home / "checkpoint").write_text("saved")
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
(home / "pid").write_text(str(os.getpid()))
while True:
    time.sleep(0.02)
"""

PARENT = """
import sys
from pathlib import Path
from evomix.settings import Sandbox
from evomix.gate import sandbox
script, scratch = map(Path, sys.argv[1:])
result = sandbox.run([str(script)], readable=[script], scratch=scratch, settings=Sandbox(), seconds=60, stream=True)
print(result.returncode, result.stopped)
"""


def start_parent(tmp_path: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a process that runs a waiting child in the sandbox; return it and the child's id."""
    script, scratch = tmp_path / "child.py", tmp_path / "scratch"
    script.write_text(CHILD)
    scratch.mkdir()
    command = [sys.executable, "-c", PARENT, str(script), str(scratch)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for _ in range(600):
        if (scratch / "pid").exists() and (scratch / "pid").read_text():
            return parent, int((scratch / "pid").read_text())
        time.sleep(0.05)
    parent.kill()
    raise AssertionError("the child never started")


def gone(process: int) -> bool:
    """Wait until a process is no more (or only a zombie)."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_child_which_saves_its_checkpoint(tmp_path: Path, number: int) -> None:
    parent, child = start_parent(tmp_path)
    parent.send_signal(number)
    output, _ = parent.communicate(timeout=30)
    assert output.strip() == f"75 signal {int(number)}"
    assert (tmp_path / "scratch" / "checkpoint").read_text() == "saved"
    assert gone(child)


def test_a_killed_launcher_leaves_no_orphan(tmp_path: Path) -> None:
    parent, child = start_parent(tmp_path)
    parent.kill()
    parent.wait()
    assert gone(child)


def test_a_terminal_is_passed_on_as_a_terminal_without_its_dangerous_sequences(tmp_path: Path) -> None:
    """Run the launcher on a pseudo-terminal: the child sees a terminal, and what reaches ours is cleaned."""
    script, scratch = tmp_path / "child.py", tmp_path / "scratch"
    script.write_text("import sys; sys.stderr.write(f'{sys.stderr.isatty()} \\x1b[A\\x1b]0;title\\x07\\x1b[2J\\r')")
    scratch.mkdir()
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", PARENT, str(script), str(scratch)]
    subprocess.run(command, stderr=theirs, stdout=subprocess.DEVNULL, check=True)
    os.close(theirs)
    shown = os.read(ours, 1 << 12)
    os.close(ours)
    assert b"True \x1b[A" in shown
    assert shown.count(b"\x1b") == 1


def test_the_filter_exists_for_both_machines() -> None:
    for machine in ("x86_64", "aarch64"):
        program = build_filter(machine, 1, gpu=False)
        assert len(program) % 8 == 0
        assert len(program) // 8 < 4096
    with pytest.raises(ValueError, match="not in tuple"):
        build_filter("riscv64", 1, gpu=False)


def test_a_gpu_job_may_name_its_threads_and_knows_its_user(tmp_path: Path) -> None:
    """The driver gives up where it cannot name its threads; torch's deterministic mode asks who the user is."""
    text = """
        import getpass, threading
        with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as name:
            name.write("driver")
        print(getpass.getuser())
    """
    assert run_script(tmp_path, text, gpu=True).stdout == b"evomix\n"
    assert b"PermissionError" in run_script(tmp_path, text).stderr


def test_threads_that_run_already_are_filtered_too() -> None:
    """A GPU's driver has threads before the filter is installed."""
    text = """
        import ctypes, socket, threading
        from evomix.gate.syscalls import filter_calls
        ready, answers = threading.Event(), []
        def ask():
            ready.wait()
            try:
                answers.append(socket.socket())
            except OSError as error:
                answers.append(error.errno)
        thread = threading.Thread(target=ask)
        thread.start()
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(38, 1, 0, 0, 0)
        filter_calls(libc, True)
        ready.set()
        thread.join()
        print(answers)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, check=True)
    assert done.stdout == "[1]\n", done.stderr
