"""A real SLURM cluster of two virtual nodes on this machine, below one folder, for tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Programs that must be there; Debian's packages of the same line have them.
PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmstepd", "srun", "sbatch", "squeue", "scontrol")
HOW_TO_INSTALL = "apt-get install slurmctld slurmd slurm-client munge"
NODES = ("n1", "n2")
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={root}/munge/socket
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1
ReturnToService=2
KillWait=30
SlurmdTimeout=10
SlurmdParameters=config_overrides
{nodes}
PartitionName=main Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """Return the programs of SLURM that this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


class SlurmCluster:
    """Starts the daemons, runs commands of SLURM, and stops the daemons."""

    def __init__(self, root: Path) -> None:
        """Write the configuration below a folder, whose path is short enough for a socket's."""
        self.root = root
        for folder in (root, root / "munge", root / "state"):
            folder.mkdir(mode=0o755, exist_ok=True)
            folder.chmod(0o755)
        ports = _free_ports(1 + len(NODES))
        host = socket.gethostname().partition(".")[0]
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2"
            for name, port in zip(NODES, ports[1:], strict=True)
        )
        text = CONF.format(host=host, port=ports[0], root=root, nodes=nodes, names=",".join(NODES))
        (root / "slurm.conf").write_text(text)
        self.variables = {**os.environ, "SLURM_CONF": str(root / "slurm.conf")}
        self.pids: list[int] = []

    def start(self) -> None:
        """Start all daemons, and wait until both nodes are idle."""
        munge = self.root / "munge"
        (munge / "key").write_bytes(os.urandom(1024))
        (munge / "key").chmod(0o600)
        places = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
        words = [f"--{name}={munge / file}" for name, file in places.items()]
        self.run("munged", "--force", *words, f"--seed-file={munge / 'seed'}")
        self.run("slurmctld")
        for name in NODES:
            self.start_node(name)
        until = time.monotonic() + 20
        while set(self.run("sinfo", "-h", "-N", "-o", "%T").split()) != {"idle"}:
            assert time.monotonic() < until, (self.root / "slurmctld.log").read_text()
            time.sleep(0.1)
        self.pids = [int(file.read_text()) for file in (munge / "pid", self.root / "slurmctld.pid")]

    def start_node(self, name: str) -> None:
        """Start the daemon of a node, also again."""
        self.run("slurmd", "-N", name, "-d", shutil.which("slurmstepd") or "")

    def fail(self, name: str, job: Any) -> None:
        """Kill the daemon of a node and all processes of the one job that runs, at once."""
        pids = [int((self.root / f"slurmd-{name}.pid").read_text()), *self._steps()]
        pids.append(json.loads((job.run_dir / "status.json").read_text())["pid"])
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _steps(self) -> list[int]:
        """Return the processes of this cluster that watch the tasks of jobs."""
        mine = f"SLURM_CONF={self.variables['SLURM_CONF']}".encode()
        pids = []
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                is_step = (place / "comm").read_text().strip() == "slurmstepd"
                if is_step and mine in (place / "environ").read_bytes().split(b"\0"):
                    pids.append(int(place.name))
        return pids

    def run(self, *words: str) -> str:
        """Run a command with this cluster's configuration; return its output."""
        done = subprocess.run(
            words, env=self.variables, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.strip()

    def submit(self, script: str, *options: str) -> str:
        """Submit the lines of a script; return the number of the job."""
        path = self.root / f"{time.monotonic_ns()}.sh"
        path.write_text(f"#!/bin/bash\n{script}\n")
        log = f"--output={self.root}/job-%j.log"
        return self.run("sbatch", "--parsable", log, "--open-mode=append", *options, str(path))

    def state(self, job: str) -> str:
        """Return the states of a job's tasks, each once, such as ``RUNNING``."""
        lines = self.run("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T").split()
        return " ".join(sorted(set(lines)))

    def wait(self, job: str, *states: str, timeout_s: float = 120.0) -> str:
        """Wait until a job has one of the states; requeued jobs are started at once."""
        until = time.monotonic() + timeout_s
        while (state := self.state(job)) not in states:
            logs = "".join(path.read_text() for path in self.root.glob("job-*.log"))
            assert time.monotonic() < until, f"{job} is {state}\n{logs}"
            if state == "PENDING":  # SLURM itself waits two minutes after a requeue
                with suppress(AssertionError):
                    self.run("scontrol", "update", f"JobId={job}", "StartTime=now")
            time.sleep(0.1)
        return state

    def stop(self) -> None:
        """End all jobs and daemons."""
        with suppress(AssertionError):
            self.run("scancel", "--full", "-u", "root")
            until = time.monotonic() + 40
            while self.run("squeue", "-h") and time.monotonic() < until:
                time.sleep(0.1)
        nodes = [int((self.root / f"slurmd-{name}.pid").read_text()) for name in NODES]
        for pid in reversed([*self.pids, *nodes]):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
                for _ in range(200):
                    time.sleep(0.05)
                    os.kill(pid, 0)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
