"""A real SLURM on loopback for tests: munged, slurmctld and one slurmd per virtual node, no systemd, no root needed.

`with Cluster(folder) as cluster:` starts it (Debian packages slurm-wlm and munge) and gives `cluster.environment`, in
which sbatch, squeue and the Snakemake SLURM plug-in reach it. `python tests/slurm_cluster.py FOLDER` starts one.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo", "scancel", "scontrol")
_PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


def missing_programs() -> list[str]:
    """Return the programs of SLURM and MUNGE that this machine lacks."""
    return [program for program in PROGRAMS if shutil.which(program, path=_PATH) is None]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [int(item.getsockname()[1]) for item in sockets]
    for item in sockets:
        item.close()
    return ports


class Cluster:
    """A SLURM cluster of `nodes` virtual nodes, each with `cores` cores, `memory_mb` and `gpus` fake GPUs."""

    def __init__(self, folder: Path, *, nodes: int = 2, cores: int = 2, memory_mb: int = 32_000, gpus: int = 4) -> None:
        self.folder = folder.resolve()
        self.nodes = [f"n{index + 1}" for index in range(nodes)]
        self.cores, self.memory_mb, self.gpus = cores, memory_mb, gpus
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": os.pathsep.join([str(self.folder / "bin"), _PATH]),
        }

    def __enter__(self) -> Cluster:
        for name in ("bin", "state", "spool", "log", "munge"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._write_configuration()
        self._write_shims()
        self._start("munged", self._munged())
        self.start_controller()
        for node in self.nodes:
            self.start_node(node)
        self.wait_until_idle()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["scancel", "--user", getpass.getuser()], env=self.environment, capture_output=True, check=False)
        for name in reversed(list(self.processes)):
            self.stop(name)

    def start_controller(self, *, clean: bool = True) -> None:
        """Start slurmctld; `clean=False` recovers the state of the last one."""
        self._start("slurmctld", ["slurmctld", "-D", *(["-c"] if clean else [])])

    def start_node(self, node: str, hidden: Path | None = None) -> None:
        """Start the node daemon of `node`, on which the folder `hidden` is empty (as root: in a mount namespace)."""
        command = ["slurmd", "-D", "-N", node]
        if hidden is not None:
            command = ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs none {hidden} && exec {' '.join(command)}"]
        self._start(node, command)

    def stop(self, name: str, signal_number: int = signal.SIGTERM) -> None:
        """Stop a daemon: `slurmctld`, `munged`, or a node's name."""
        process = self.processes.pop(name)
        process.send_signal(signal_number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def squeue(self, fmt: str = "%i|%T|%k|%Z") -> list[str]:
        """Return one line per job of this cluster in squeue's format `fmt`."""
        command = ["squeue", "-h", "-o", fmt]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True
        ).stdout.splitlines()

    def jobs(self) -> list[dict[str, str]]:
        """Return all jobs, ended ones too, as SLURM's own keys and values (JobId, JobState, Comment, Restarts...)."""
        told = subprocess.run(
            ["scontrol", "show", "jobs", "--oneliner"], env=self.environment, capture_output=True, text=True, check=True
        ).stdout
        return [
            dict(word.split("=", 1) for word in line.split() if "=" in word)
            for line in told.splitlines()
            if line.startswith("JobId=")
        ]

    def _munged(self) -> list[str]:
        munge = self.folder / "munge"
        key = munge / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        munge.chmod(0o755)
        return [
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge / 'socket'}",
            f"--pid-file={munge / 'pid'}", f"--log-file={munge / 'log'}", f"--seed-file={munge / 'seed'}",
            "--num-threads=2",
        ]  # fmt: skip

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        if name == "munged":
            self._wait_for(lambda: (self.folder / "munge" / "socket").exists(), "munged's socket")

    def _wait_for(self, condition: object, what: str, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():  # type: ignore[operator]
                return
            time.sleep(0.1)
        logs = {path.name: path.read_text()[-2000:] for path in (self.folder / "log").iterdir()}
        raise RuntimeError(f"the test cluster did not show {what} within {seconds:.0f} s: {logs}")

    def wait_until_idle(self) -> None:
        """Wait until every node answers and has nothing to do."""

        def idle() -> bool:
            command = ["sinfo", "-h", "-N", "-o", "%N %T"]
            lines = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False).stdout
            return {line.split()[0] for line in lines.splitlines() if line.endswith(" idle")} == set(self.nodes)

        self._wait_for(idle, "idle nodes")

    def _write_shims(self) -> None:
        """The plug-in's job step drops SLURM_CONF, and it wants sacct and sacctmgr to exist (without accounting)."""
        for name in ("srun", "sacct", "sacctmgr"):
            real = shutil.which(name, path=_PATH) or "/bin/true"
            shim = self.folder / "bin" / name
            shim.write_text(f'#!/bin/sh\nexport SLURM_CONF={self.folder}/slurm.conf\nexec {real} "$@"\n')
            shim.chmod(0o755)

    def _write_configuration(self) -> None:
        user, host = getpass.getuser(), socket.gethostname()
        ports = _free_ports(1 + len(self.nodes))
        for index in range(self.gpus):
            (self.folder / f"nvidia{index}").touch()
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={self.cores} "
            f"RealMemory={self.memory_mb} Gres=gpu:h200:{self.gpus} State=UNKNOWN"
            for node, port in zip(self.nodes, ports[1:], strict=True)
        ]
        lines = f"""
ClusterName=evomix
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={self.folder}/munge/socket,cred_expire=20
CredType=cred/munge
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool/%n
SlurmctldPidFile={self.folder}/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd.%n.pid
SlurmctldLogFile={self.folder}/log/slurmctld.log
SlurmdLogFile={self.folder}/log/slurmd.%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
OverTimeLimit=0
KillWait=5
MinJobAge=7200
ReturnToService=2
SlurmdTimeout=10
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,defer_batch=0,sched_interval=2
GresTypes=gpu
""".strip().splitlines()
        partitions = [
            f"PartitionName={name} Nodes={','.join(self.nodes)} State=UP MaxTime=INFINITE" for name in ("cpu", "gpu")
        ]
        partitions[0] += " Default=YES"
        partitions.append(f"PartitionName=urgent Nodes={','.join(self.nodes)} State=UP PriorityTier=10")
        partitions.append(f"PartitionName=closed Nodes={','.join(self.nodes)} State=UP AllowAccounts=physics")
        (self.folder / "slurm.conf").write_text("\n".join([*lines, *nodes, *partitions]) + "\n")
        files = f"{self.folder}/nvidia[0-{self.gpus - 1}]"
        (self.folder / "gres.conf").write_text(f"NodeName={','.join(self.nodes)} Name=gpu Type=h200 File={files}\n")
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")


if __name__ == "__main__":
    with Cluster(Path(sys.argv[1])) as running:
        print(
            f"export SLURM_CONF={running.environment['SLURM_CONF']} PATH={running.folder}/bin:$PATH  # Ctrl-C stops it"
        )
        signal.pause()
