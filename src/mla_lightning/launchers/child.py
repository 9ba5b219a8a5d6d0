"""One job in one forked process: starting it, watching it, ending it."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from mla_lightning.errors import Interrupted, Preempted
from mla_lightning.launchers.base import Ended, JobFunction
from mla_lightning.run_folder import LOG, State

if TYPE_CHECKING:
    from mla_lightning.config import Job

STOPPING = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """A job's process as its parent sees it.

    Attributes:
        job: The job.
        pid: The process, also the number of its process group.
        slot: The environment variables of the place that it occupies.
        started: When it was started, on the monotonic clock.
        kill_at: When it is killed, None as long as nobody has asked it to end.
    """

    job: Job
    pid: int
    slot: dict[str, str]
    started: float = field(default_factory=time.monotonic)
    kill_at: float | None = None
    _exit_code: int = 0
    _reason: str = ""
    _state: State = State.FAILED

    def age_s(self) -> float:
        """Tell for how many seconds it has been running."""
        return time.monotonic() - self.started

    def has_ended(self) -> bool:
        """Find out whether it has ended; if so, what it left running is ended with it."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return False
        self._exit_code = os.waitstatus_to_exitcode(status)
        self._signal_group(signal.SIGKILL)
        return True

    def outcome(self) -> Ended:
        """Tell how it ended."""
        return Ended(self._exit_code, self.age_s(), self.pid, self._reason, self._state)

    def ask_to_end(self, number: signal.Signals, grace_s: float, reason: str, state: State) -> None:
        """Ask it to write a checkpoint and end; the first reason is the one that is kept.

        Args:
            number: The signal to ask with.
            grace_s: Seconds until it is killed.
            reason: Why, for the user.
            state: What the job is afterwards, unless it records that itself.
        """
        if self.kill_at is None:
            self._reason, self._state = reason, state
            self.kill_at = time.monotonic() + grace_s
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)  # the job alone: it ends its own loader workers

    def kill(self) -> None:
        """Kill it and all that it has started."""
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def fork_child(job: Job, function: JobFunction, slot: dict[str, str]) -> Child:
    """Start a job in a forked process with its own process group and its output in its log file.

    Args:
        job: The job; its folder exists.
        function: Runs the job and returns its exit code.
        slot: Environment variables to set for it.

    Returns:
        The process.

    Raises:
        OSError: If the log cannot be written, or no process can be started.
    """
    log = os.open(job.run_dir / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    parent = os.getpid()
    sys.stdout.flush()  # what is buffered here would be written once more by the child
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        with warnings.catch_warnings():
            # Python 3.12 counts a BLAS's idle threads, which that library's fork handlers stop
            warnings.filterwarnings("ignore", ".*multi-threaded.*", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _run_in_child(job, function, slot, log, parent)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        os.close(log)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(pid, pid)  # here and in the child: neither knows who comes first
    return Child(job, pid, slot)


def _run_in_child(
    job: Job, function: JobFunction, slot: Mapping[str, str], log: int, parent: int
) -> NoReturn:
    """Run the job and end; nothing of the parent's (exit handlers, buffers) runs a second time."""
    code = 1
    try:
        os.setpgid(0, 0)  # Ctrl-C reaches the parent, which asks its children in its own way
        _redirect_to(log)
        _end_with(parent)
        settle_after_fork()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        os.environ.update(slot)
        code = function(job)
    except SystemExit as error:
        code = exit_code_of(error)
    except KeyboardInterrupt:
        code = Interrupted.exit_code
    except BaseException:  # whatever a job raises ends the job and nothing else
        traceback.print_exc()
    finally:
        try:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code & 0xFF)


def settle_after_fork() -> None:
    """Do what multiprocessing's own fork does: forget the parent's threads and addresses.

    A parent that has used loader workers leaves the address at which it hands out file
    descriptors; this process's workers would ask there for what only this process has.
    """
    from multiprocessing import util

    util._run_after_forkers()  # type: ignore[attr-defined]


def exit_code_of(error: SystemExit) -> int:
    """Tell the exit code that Python would end with."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    print(error.code, file=sys.stderr)
    return 1


def _redirect_to(log: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # a forgotten breakpoint ends the job instead of waiting for ever
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  open until the process ends
    for name, number in (("stdout", 1), ("stderr", 2)):
        lines = open(number, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
        setattr(sys, name, lines)


def _end_with(parent: int) -> None:
    """Let the kernel send SIGTERM when the parent dies, by whatever death."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(Preempted.exit_code)
