"""The seccomp filter: which system calls a sandboxed process is refused, as a classic BPF program built by hand.

Refused are the doors that Landlock leaves open: processes, other processes' memory and signals, sockets of every
family, shared memory by key, namespaces, mounts, kernel modules, tracing, and every call newer than this table. Threads
of the process itself stay allowed. Numbers: linux/unistd.h for x86_64 and aarch64; from 424 on they are the same.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_SECCOMP, _SET_MODE_FILTER, _ALL_THREADS = {"x86_64": 317, "aarch64": 277}, 1, 1
_CLONE_THREAD = 0x10000
_NEWEST = 462
"""mseal (Linux 6.10); newer calls answer ENOSYS until someone has judged them."""

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64); None where the machine has no such call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "execve": (59, 221), "execveat": (322, 281), "fork": (57, None),
    "vfork": (58, None), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "setrlimit": (160, 164), "setpriority": (141, 140), "ioprio_set": (251, 30), "mount": (165, 40),
    "umount2": (166, 39), "unshare": (272, 97), "setns": (308, 268), "pivot_root": (155, 41), "chroot": (161, 51),
    "bpf": (321, 280), "perf_event_open": (298, 241), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "userfaultfd": (323, 282), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "iopl": (172, None), "ioperm": (173, None), "quotactl": (179, 60),
    "open_by_handle_at": (304, 265), "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195),
    "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180), "fanotify_init": (300, 262),
    "inotify_init": (253, None), "inotify_init1": (294, 26), "syslog": (103, 116), "acct": (163, 89),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "vhangup": (153, 58), "personality": (135, 92),
    "capset": (126, 91), "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setgroups": (116, 159), "setfsuid": (122, 151),
    "setfsgid": (123, 152), "migrate_pages": (256, 238), "move_pages": (279, 239), "mknod": (133, None),
    "mknodat": (259, 33), "symlink": (88, None), "symlinkat": (266, 36),
    "pidfd_send_signal": (424, 424), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "mount_setattr": (442, 442), "quotactl_fd": (443, 443),
    "memfd_secret": (447, 447), "process_mrelease": (448, 448),
}  # fmt: skip

# Ownership, modes, times and attributes of files lie outside Landlock; these calls claim success and do nothing, so
# that honest code which sets the mode of its own files goes on.
_IGNORED: dict[str, tuple[int | None, int | None]] = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
}  # fmt: skip

_MEMFD = (319, 279)
_CLONE, _CLONE3, _KILL_CALL, _TGKILL = (56, 220), (435, 435), (62, 129), (234, 131)
_PRLIMIT, _PRCTL, _IOCTL = (302, 261), (157, 167), (16, 29)
_REFUSED_PRCTL = (1, 4, 8, 35, 0x59616D61)
"""PR_SET_PDEATHSIG, _DUMPABLE, _KEEPCAPS, _MM, _PTRACER: outliving the parent, being traced, changing its image."""
_REFUSED_IOCTL = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX: typing into the terminal of whoever watches."""


def _operation(code: int, value: int, on_true: int = 0, on_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, on_true, on_false, value & 0xFFFFFFFF)


def _answer(number: int) -> bytes:
    return _operation(_RETURN, _ERRNO | number)


def _argument(index: int, high: bool = False) -> bytes:
    return _operation(_LOAD, 16 + 8 * index + 4 * high)


def _guarded(call: int, body: list[bytes]) -> list[bytes]:
    """Run `body`, which must return, when the loaded number is `call`."""
    return [_operation(_EQUAL, call, 0, len(body)), *body]


def build_filter(machine: str, process: int, gpu: bool) -> bytes:
    """Return the BPF program for `machine`; `process` is the only process that may be signalled."""
    column = ("x86_64", "aarch64").index(machine)
    permit, refuse = _operation(_RETURN, _ALLOW), _answer(errno.EPERM)
    program = [
        _operation(_LOAD, 4),
        _operation(_EQUAL, _AUDIT[machine], 1, 0),
        _operation(_RETURN, _KILL),
        _operation(_LOAD, 0),
        _operation(_AT_LEAST, _NEWEST + 1, 0, 1),  # also the x32 calls, which carry bit 30
        _answer(errno.ENOSYS),
    ]
    for numbers in [*_REFUSED.values(), *([] if gpu else [_MEMFD])]:
        if numbers[column] is not None:
            program += _guarded(numbers[column] or 0, [refuse])
    for numbers in _IGNORED.values():
        if numbers[column] is not None:
            program += _guarded(numbers[column] or 0, [_answer(0)])
    program += _guarded(_CLONE3[column], [_answer(errno.ENOSYS)])  # flags behind a pointer: the C library falls back
    program += _guarded(_CLONE[column], [_argument(0), _operation(_ANY_BIT, _CLONE_THREAD, 1, 0), refuse, permit])
    for call in (_KILL_CALL, _TGKILL):
        program += _guarded(call[column], [_argument(0), _operation(_EQUAL, process, 1, 0), refuse, permit])
    reading = [_operation(_EQUAL, 0, 0, 2), _argument(2, high=True), _operation(_EQUAL, 0, 1, 0), refuse, permit]
    program += _guarded(_PRLIMIT[column], [_argument(2), *reading])
    for call, index, values in ((_PRCTL, 0, _REFUSED_PRCTL), (_IOCTL, 1, _REFUSED_IOCTL)):
        checks = [part for value in values for part in (_operation(_EQUAL, value, 0, 1), refuse)]
        program += _guarded(call[column], [_argument(index), *checks, permit])
    return b"".join([*program, permit])


def filter_calls(libc: ctypes.CDLL, gpu: bool) -> str:
    """Install the filter on all threads and their successors; OSError or ValueError where the machine cannot."""
    machine = os.uname().machine
    program = build_filter(machine, os.getpid(), gpu)
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    argument = Program(len(program) // 8, ctypes.addressof(code))
    failed = libc.syscall(ctypes.c_long(_SECCOMP[machine]), _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(argument))
    if failed:
        reason = "a thread has a filter of its own" if failed > 0 else os.strerror(ctypes.get_errno())
        raise OSError(reason)
    return "active"
