"""A stand-in for training: it takes the lock, writes its state, and then obeys its config."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mla_lightning import run_folder as files
from mla_lightning.identity.code import Code
from mla_lightning.launchers.fork import ForkLauncher
from mla_lightning.run_folder.lock import RunLock

CODE = Code({"mla_lightning.errors": "0" * 16})
CHECKPOINT = "checkpoint"
BEGUN_AT = "begun_at"


@dataclass(frozen=True)
class StandInJob:
    """A job with the attributes that a sweep reads."""

    run_dir: Path
    behaviour: str = "finish"
    duration_s: float = 0.0
    threads: int = 1
    devices: int = 1
    num_nodes: int = 1
    accelerator: str = "cpu"
    tree: dict[str, Any] = field(default_factory=dict)
    stale: str = "retrain"
    code: Code = CODE

    @property
    def config(self) -> SimpleNamespace:
        """Return the settings that a sweep reads."""
        trainer = SimpleNamespace(
            threads=self.threads,
            accelerator=self.accelerator,
            devices=self.devices,
            num_nodes=self.num_nodes,
            num_ranks=self.devices * self.num_nodes,
        )
        return SimpleNamespace(
            name=self.run_dir.parent.name,
            paths=SimpleNamespace(output_dir=str(self.run_dir.parent.parent)),
            run_dir=None,
            trainer=trainer,
            overwrite=False,
            stale=self.stale,
            logger=None,
            tree=self.tree,
        )

    @property
    def title(self) -> str:
        """Return the title of the job."""
        return self.run_dir.name

    @property
    def identity(self) -> str:
        """Return the identity of the job."""
        return f"identity of {self.title}"

    @property
    def overrides(self) -> tuple[str, ...]:
        """Return overrides, one of which a shell command must quote."""
        return (f"run={self.title}", "note=a b")

    @property
    def distinguishing_overrides(self) -> dict[str, str]:
        """Return overrides that distinguish the job."""
        return {"note": "a b"}


def write_status(job: StandInJob, state: str, **more: Any) -> None:
    """Write a status as training does."""
    before = files.read_json(job.run_dir / files.STATUS) or {}
    attempt = int(before.get("attempt", 0)) + (state == "running")
    content = {"state": state, "pid": os.getpid(), "host": socket.gethostname(), "attempt": attempt}
    files.write_json(job.run_dir / files.STATUS, {**content, **more})


def run_stand_in(job: StandInJob) -> int:
    """Run a job, from its checkpoint if there is one."""
    try:
        lock = RunLock(job.run_dir).__enter__()
    except files.RunError as error:
        print(f"error: {error}")
        return 1
    with lock:
        write_status(job, "running")
        print(f"running {job.title}")
        behave(job)
        (job.run_dir / files.CONFIG).write_text("a: 1\n")
        result = {
            "identity": job.identity,
            "code": job.code.hash,
            "val": {"multi": {"accuracy": 0.612}},
        }
        files.write_json(job.run_dir / files.RESULT, result)
        write_status(job, "finished", exit_code=0)
    return 0


def behave(job: StandInJob) -> None:
    """Behave as the job's behaviour says."""
    match job.behaviour:
        case "raise":
            raise ValueError("a wrong value")
        case "exit":
            sys.exit(7)
        case "leave":
            os._exit(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(600)
        case "hang for ever" | "persist":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            (job.run_dir / BEGUN_AT).touch()
            time.sleep(600)
        case "checkpoint":
            work_with_checkpoints(job)
        case _:
            time.sleep(job.duration_s)


def work_with_checkpoints(job: StandInJob) -> None:
    """Count to a hundred; on SIGTERM or SIGINT write the count and end as training does."""
    path = job.run_dir / CHECKPOINT
    count = int(path.read_text()) if path.exists() else 0
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))
    (job.run_dir / BEGUN_AT).write_text(str(count))
    while count < 100:
        time.sleep(job.duration_s / 100)
        count += 1
        if signals:
            path.write_text(str(count))
            code, state = {2: (130, "interrupted"), 15: (143, "preempted")}[signals[0]]
            write_status(job, state, exit_code=code, reason=f"{state} at {count}")
            sys.exit(code)


def status_of(job: StandInJob) -> Mapping[str, Any]:
    """Read a job's status."""
    status = files.read_json(job.run_dir / files.STATUS)
    assert status is not None
    return status


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition, or fail."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the condition never held"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def launcher(**options):
    return ForkLauncher(**{"jobs": 2, "grace_s": 2.0, "job_function": run_stand_in, **options})
