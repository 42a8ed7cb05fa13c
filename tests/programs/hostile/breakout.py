"""What a process inside the sandbox may try against the machine: every attempt reports whether it succeeded.

Run as a script with the arguments: the launcher's process id, a port the test listens at on 127.0.0.1, the path of a
secret file, a folder it must not write to. Attempts are harmless if they succeed: they read a marker, connect to the
test, or write beside the secret. Prints a JSON object: attempt → true when it succeeded.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARENT, PORT, SECRET, OUTSIDE = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: Any) -> bool:
    """Tell whether a raw system call (x86_64 number) succeeded."""
    return os.uname().machine == "x86_64" and libc.syscall(ctypes.c_long(number), *arguments) >= 0


def _rename() -> bool:
    mine = Path(tempfile.gettempdir()) / "mine"
    mine.write_text("x")
    mine.rename(OUTSIDE / "marker")
    return True


def _become() -> bool:
    """Tell whether the system would start a program: it looks for the file only then."""
    try:
        os.execv("/nowhere/program", ["program"])
    except FileNotFoundError:
        return True
    return False


def _clone() -> bool:
    mine = os.getpid()
    succeeded = _call(435, ctypes.create_string_buffer(88), 88)
    if os.getpid() != mine:
        os._exit(0)
    return succeeded


def _connect() -> bool:
    with socket.socket() as link:
        link.connect(("127.0.0.1", PORT))
    return True


def _datagram() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        return link.sendto(b"x", ("127.0.0.1", PORT)) > 0


def _abstract_socket() -> bool:
    with socket.socket(socket.AF_UNIX) as link:
        link.bind(f"\0evomix-{os.getpid()}")
    return True


def _fork() -> bool:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return True


def _write(path: Path) -> bool:
    path.write_text("x")
    return True


def _descriptors() -> bool:
    """Tell whether anything but the standard streams was inherited."""
    for number in range(3, 64):
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{number}").startswith(("/proc/", "anon_inode")):
                return True
    return False


def _mode() -> bool:
    before = SECRET.stat().st_mode
    SECRET.chmod(0o777)
    return SECRET.stat().st_mode != before


def _times() -> bool:
    before = SECRET.stat().st_mtime
    os.utime(SECRET, (1, 1))
    return SECRET.stat().st_mtime != before


def _raise_limits() -> bool:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard if hard == resource.RLIM_INFINITY else hard * 2))
    return True


def _other_memory() -> bool:
    with open(f"/proc/{PARENT}/mem", "rb") as stream:
        return bool(stream.fileno())


def _link() -> bool:
    target = Path(tempfile.gettempdir()) / "link"
    target.symlink_to(SECRET)
    return True


def _shared() -> bool:
    with open("/dev/shm/evomix-test", "w") as stream:
        stream.write("x")
    os.unlink("/dev/shm/evomix-test")
    return True


def _new_device() -> bool:
    os.mknod(Path(tempfile.gettempdir()) / "null", 0o666 | 0o020000, os.makedev(1, 3))
    return True


ATTEMPTS: dict[str, Callable[[], Any]] = {
    "read a file of the user": SECRET.read_text,
    "list the home folder": lambda: os.listdir(Path(SECRET).parent),
    "list the root folder": lambda: os.listdir("/"),
    "read /etc/passwd": lambda: Path("/etc/passwd").read_text(),
    "write outside": lambda: _write(OUTSIDE / "marker"),
    "write beside a package": lambda: (
        os.access(json.__file__, os.W_OK) and bool(open(json.__file__, "ab").close() or 1)
    ),
    "rename out of the scratch folder": _rename,
    "read the launcher's environment": lambda: Path(f"/proc/{PARENT}/environ").read_bytes() or True,
    "read the launcher's command": lambda: os.listdir(f"/proc/{PARENT}/fd"),
    "read the launcher's memory": _other_memory,
    "trace the launcher": lambda: _call(101, 16, PARENT, 0, 0),
    "read memory across processes": lambda: _call(310, PARENT, 0, 0, 0, 0, 0),
    "signal the launcher": lambda: os.kill(PARENT, 0) or True,
    "signal everyone": lambda: os.kill(-1, 0) or True,
    "inherit a descriptor": _descriptors,
    "inherit the environment": lambda: "EVOMIX_SECRET" in os.environ,
    "connect by TCP": _connect,
    "send by UDP": _datagram,
    "abstract socket": _abstract_socket,
    "socket pair": socket.socketpair,
    "fork": _fork,
    "start a program": lambda: subprocess.run(["/bin/true"], check=True) and True,
    "become a program": _become,
    "shell": lambda: os.system("true") == 0,
    "new user namespace": lambda: libc.unshare(0x10000000) == 0,
    "mount": lambda: _call(165, b"none", b"/mnt", b"tmpfs", 0, None),
    "io_uring": lambda: _call(425, 8, ctypes.create_string_buffer(256)),
    "user faults": lambda: _call(323, 0),
    "memory file": lambda: _call(319, b"x", 0),
    "shared memory by key": lambda: _call(29, 0, 4096, 0o1600),
    "keyring": lambda: _call(250, 0, -3, 0),
    "performance events": lambda: _call(298, ctypes.create_string_buffer(128), 0, -1, -1, 0),
    "BPF": lambda: _call(321, 0, ctypes.create_string_buffer(128), 128),
    "open by handle": lambda: _call(304, -100, ctypes.create_string_buffer(64), 0),
    "process descriptor": lambda: _call(434, PARENT, 0),
    "clone3": _clone,
    "x32 calls": lambda: _call(0x40000000 + 39),
    "outlive the launcher": lambda: libc.prctl(1, 0, 0, 0, 0) == 0,
    "become dumpable": lambda: libc.prctl(4, 1, 0, 0, 0) == 0,
    "raise the limits": _raise_limits,
    "change a mode outside": _mode,
    "change times outside": _times,
    "symbolic link": _link,
    "device node": _new_device,
    "shared memory folder": _shared,
    "new capabilities": lambda: "CapEff:\t000001ff" in Path("/proc/self/status").read_text(),
    "become another user": lambda: os.setresuid(1, 1, 1) or True,
    "type into the terminal": lambda: __import__("fcntl").ioctl(2, 0x5412, b"x") == 0 or True,
}


def main() -> dict[str, bool]:
    """Run every attempt."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    found = {}
    for name, attempt in ATTEMPTS.items():
        try:
            result = attempt()
            found[name] = result is not False
        except (OSError, subprocess.SubprocessError, ValueError):
            found[name] = False
    return found


if __name__ == "__main__":
    print(json.dumps(main()))
