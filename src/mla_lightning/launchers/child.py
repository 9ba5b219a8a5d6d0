"""Forked processes, each of which runs one job."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from mla_lightning.config.secrets import mask_secrets
from mla_lightning.errors import Interrupted, Preempted
from mla_lightning.launchers.base import JobExit, JobFunction
from mla_lightning.run_folder import LOG, State
from mla_lightning.run_folder.forks import end_with_parent, fork, reset_multiprocessing
from mla_lightning.run_folder.stop_signals import STOP_SIGNALS
from mla_lightning.run_folder.writing import open_file

if TYPE_CHECKING:
    from mla_lightning.config import Job


@dataclass
class Child:
    """The forked process of a job, as seen by its parent.

    Attributes:
        job: The job.
        pid: The process, which is also the number of its process group.
        slot: Environment variables of its slot, such as ``CUDA_VISIBLE_DEVICES``.
        started: Time of the start, on the monotonic clock.
        kill_at: Time at which it will be killed; None until it is asked to stop.
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
        """Return the number of seconds since its start."""
        return time.monotonic() - self.started

    def has_ended(self) -> bool:
        """Return whether it has ended; if so, kill the processes that it left in its group."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return False
        self._exit_code = os.waitstatus_to_exitcode(status)
        self._signal_group(signal.SIGKILL)
        return True

    def job_exit(self) -> JobExit:
        """Return how it ended."""
        return JobExit(self._exit_code, self.age_s(), self.pid, self._reason, self._state)

    def request_stop(
        self, number: signal.Signals, grace_s: float, reason: str, state: State
    ) -> None:
        """Request the job to write a checkpoint and end; later requests change nothing.

        Args:
            number: The signal to send.
            grace_s: Seconds until it is killed.
            reason: Reason for the user.
            state: State of the job afterwards, unless the job records another one.
        """
        if self.kill_at is None:
            self._reason, self._state = reason, state
            self.kill_at = time.monotonic() + grace_s
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)  # to the job alone, which ends its loader workers

    def kill(self) -> None:
        """Kill it and all processes that it has started."""
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def fork_child(job: Job, function: JobFunction, slot: dict[str, str]) -> Child:
    """Start a job in a forked process with its own process group and its output in its log file.

    Args:
        job: The job; its folder exists.
        function: Function that runs the job and returns its exit code.
        slot: Environment variables to set in the process.

    Returns:
        The process.

    Raises:
        OSError: If the log cannot be written, or no process can be started.
    """
    log = open_file(job.run_dir / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    parent = os.getpid()
    try:
        pid = fork()
        if pid == 0:
            _run_in_child(job, function, slot, log, parent)
    finally:
        os.close(log)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(pid, pid)  # here and in the child: either may be first
    return Child(job, pid, slot)


def _run_in_child(
    job: Job, function: JobFunction, slot: Mapping[str, str], log: int, parent: int
) -> NoReturn:
    """Run the job and end, without the parent's exit handlers and buffered output."""
    code = 1
    try:
        os.setpgid(0, 0)  # Ctrl-C reaches the parent only, which then stops its children
        redirect_to(log)
        end_with_parent(signal.SIGTERM, parent, Preempted.exit_code)
        reset_multiprocessing()
        os.environ.update(slot)
        code = run_to_exit_code(job, function)
    except BaseException:  # an error of a job must not reach the parent's code
        traceback.print_exc()
    finally:
        try:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code & 0xFF)


def run_to_exit_code(job: Job, function: JobFunction) -> int:
    """Run a job in a process of its own, whose stop signals are set to their defaults.

    Args:
        job: The job.
        function: Function that runs the job and returns its exit code.

    Returns:
        The exit code, also of a function that raises.

    Example:
        >>> def leave(job):
        ...     raise SystemExit(3)
        >>> run_to_exit_code(None, leave)
        3
    """
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in set(STOP_SIGNALS) - {signal.SIGINT}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        return function(job)
    except SystemExit as error:
        return exit_code_of(error)
    except KeyboardInterrupt:
        return Interrupted.exit_code
    except BaseException:
        traceback.print_exc()
        return 1


def exit_code_of(error: SystemExit) -> int:
    """Return the exit code that Python would end with.

    Example:
        >>> exit_code_of(SystemExit(7)), exit_code_of(SystemExit())
        (7, 0)
    """
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    print(error.code, file=sys.stderr)
    return 1


def redirect_to(log: int) -> None:
    """Let this process write its output to a log, and read no input.

    Args:
        log: The descriptor of the log.
    """
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)  # a forgotten breakpoint ends the job instead of waiting for input
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  open until the process ends
    for name, number in (("stdout", 1), ("stderr", 2)):
        previous = getattr(sys, name)
        stream = _Masked(open(number, "wb", 0, closefd=False))  # noqa: SIM115
        setattr(sys, name, stream)
        for handler in _stream_handlers():
            if handler.stream is previous:
                handler.stream = stream


class _Masked(io.TextIOWrapper):
    """A stream to the log, in which the values of secrets are masked."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(raw, "utf-8", "backslashreplace", write_through=True)

    def write(self, text: str) -> int:
        """Write a text without secrets; return its length."""
        super().write(mask_secrets(text))
        return len(text)


def _stream_handlers() -> list[Any]:
    """Return the handlers that log to streams."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = [h for logger in loggers for h in getattr(logger, "handlers", ())]
    return [handler for handler in handlers if isinstance(handler, logging.StreamHandler)]
