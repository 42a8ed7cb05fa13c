"""Confinement from within: a sandboxed process gives up its rights, says which, and only then runs its target.

Started by `sandbox.run` as a script (`python -s -P confine.py POLICY TARGET…`); nothing of the candidate has been read
yet. Standard library only: Landlock, seccomp and capabilities are reached through ctypes, need no root and no
namespaces, and hold for every thread the target starts later. Numbers are those of the Linux ABI (linux/landlock.h,
linux/capability.h, linux/prctl.h).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import runpy
import signal
import stat
import sys
from collections.abc import Callable
from typing import Any

_PDEATHSIG, _NO_NEW_PRIVS = 1, 38
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_EXECUTE, _WRITE, _READ, _READ_DIR, _TRUNCATE, _IOCTL = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_FILE_RIGHTS = _EXECUTE | _WRITE | _READ | _TRUNCATE | _IOCTL
_FOLDER_RIGHTS = _WRITE | _READ | _READ_DIR | _TRUNCATE | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 13
"""Read, write, truncate, rename, remove and make files and folders; never execute, links, devices, sockets or pipes."""

_SYSTEM = (
    "/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/dev/null", "/dev/urandom",
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system",
)  # fmt: skip
_GPU_SYSTEM = (
    "/proc/driver/nvidia",
    "/proc/sys/vm/mmap_min_addr",
    "/sys/bus/pci",
    "/sys/devices",
    "/sys/module/nvidia",
    "/usr/local/cuda",
    "/usr/local/nvidia",
    "/usr/share",
)

libc = ctypes.CDLL(None, use_errno=True)


class AbsentError(Exception):
    """This machine lacks a layer."""


def _call(number: int, *arguments: Any) -> int:
    """Make a system call; AbsentError with the system's words when it fails."""
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise AbsentError(os.strerror(ctypes.get_errno()))
    return int(result)


def follow_parent(parent: int) -> str:
    """Die with the parent: the kernel kills this process when the one that started it is gone, however it went."""
    zero = ctypes.c_ulong(0)
    if libc.prctl(_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), zero, zero, zero) or os.getppid() != parent:
        os._exit(1)
    if libc.prctl(_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero):
        raise AbsentError(os.strerror(ctypes.get_errno()))
    return "active"


def limit_resources(memory: int, file: int, cpu: int) -> str:
    """Limit private memory, size of a file and CPU seconds; no core dumps, few open files."""
    limits = {
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_FSIZE: file,
        resource.RLIMIT_CPU: cpu,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 1024,
    }
    for name, value in limits.items():
        _, hard = resource.getrlimit(name)
        bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (bounded, bounded))
    return "active"


def drop_capabilities() -> str:
    """Give up every capability but those that only bypass file permissions (Landlock rules over files)."""
    keep = (1 << 1) | (1 << 2)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    number = {"x86_64": (125, 126), "aarch64": (90, 91)}.get(os.uname().machine)
    if number is None:
        raise AbsentError(f"machine {os.uname().machine} is not known")
    _call(number[0], header, data)
    for index in range(6):
        data[index] = data[index] & keep if index < 2 else 0  # effective, permitted; nothing inheritable
    _call(number[1], header, data)
    return "active"


def _allow(ruleset: int, path: str, rights: int) -> None:
    """Grant `rights` beneath `path`, as far as they apply to it; a path that is not there grants nothing."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FILE_RIGHTS
        rule = rights.to_bytes(8, sys.byteorder) + descriptor.to_bytes(4, sys.byteorder)
        _call(_LANDLOCK_ADD, ruleset, 1, ctypes.c_char_p(rule), 0)
    finally:
        os.close(descriptor)


def restrict_files(readable: list[str], writable: list[str], programs: list[str], gpu: bool) -> str:
    """Landlock: see the interpreter, packages and `readable`, write beneath `writable`, start what is in `programs`.

    No TCP, no signals out.
    """
    abi = _call(_LANDLOCK_CREATE, None, 0, 1)
    handled = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)) - 1
    attributes = (ctypes.c_uint64 * 3)(handled, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    ruleset = _call(_LANDLOCK_CREATE, attributes, ctypes.sizeof(attributes), 0)
    prefixes = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    for path in [*_SYSTEM, *prefixes, *filter(None, sys.path), *filter(None, libraries), *readable]:
        _allow(ruleset, path, (_READ | _READ_DIR) & handled)
    for path in writable:
        _allow(ruleset, path, _FOLDER_RIGHTS & handled)
    for path in programs:
        _allow(ruleset, path, (_EXECUTE | _READ | _READ_DIR) & handled)
    _allow(ruleset, "/dev/null", (_READ | _WRITE) & handled)
    if gpu:
        for path in _GPU_SYSTEM:
            _allow(ruleset, path, (_READ | _READ_DIR) & handled)
        task = _READ | _WRITE | _READ_DIR | _TRUNCATE  # the driver names its threads, and gives up where it cannot
        _allow(ruleset, "/proc/self/task", task & handled)
        devices = [f"/dev/{name}" for name in os.listdir("/dev") if name.startswith("nvidia")]
        for path in [*devices, "/dev/shm"]:
            _allow(ruleset, path, (_FOLDER_RIGHTS | _IOCTL) & handled)
    _call(_LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)
    return f"active (ABI {abi})"


def open_gpu() -> None:
    """Start the NVIDIA driver in this process: it opens a socket meanwhile, which seccomp refuses.

    Does nothing where there is no driver or no device; torch says so when it is asked for one.
    """
    with contextlib.suppress(OSError):
        driver = ctypes.CDLL("libcuda.so.1")
        context = ctypes.c_void_p()
        if driver.cuInit(0) == 0:
            driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)


def confine(policy: dict[str, Any]) -> dict[str, str]:
    """Apply every layer in order; return layer → "active…" or "absent: why"."""
    from evomix.gate.syscalls import filter_calls

    def seccomp() -> str:
        if policy["gpu"]:
            open_gpu()
        return filter_calls(libc, policy["gpu"])

    steps: dict[str, Callable[[], str]] = {
        "process": lambda: follow_parent(policy["parent"]),
        "rlimits": lambda: limit_resources(policy["memory"], policy["file"], policy["cpu"]),
        "capabilities": drop_capabilities,
        "landlock": lambda: restrict_files(policy["readable"], policy["writable"], policy["programs"], policy["gpu"]),
        "seccomp": seccomp,
    }
    layers = {"environment": "active"}
    for name, step in steps.items():
        try:
            layers[name] = "skipped by the caller" if name in policy["skip"] else step()
        except (AbsentError, OSError, ValueError) as error:
            layers[name] = f"absent: {error}"
    return layers


def main() -> None:
    """Confine this process, report the layers on the inherited descriptor, and become the target."""
    policy = json.loads(sys.argv[1])
    packages = [place for place, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages"))]
    sys.path.insert(min(packages, default=len(sys.path)), policy["source"])  # the launcher's evomix, not another one
    layers = confine(policy)
    with open(policy["report"], "w", encoding="utf-8") as report:
        json.dump(layers, report)
    if any(not layers[name].startswith("active") for name in policy["require"]):
        os._exit(0)
    sys.argv = sys.argv[2:]
    if sys.argv[0] == "-m":
        sys.argv = sys.argv[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
