"""Final state of a job, and its record where the job could not write it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning import run_folder as files
from mla_lightning.errors import RunError, reason_of
from mla_lightning.launchers.base import JobExit
from mla_lightning.run_folder import State
from mla_lightning.run_folder.completion import completion_of
from mla_lightning.run_folder.lock import RunLock, describe_holder, remove_temporaries
from mla_lightning.run_folder.writing import open_file

if TYPE_CHECKING:
    from mla_lightning.config import Job

LOG_LINES_IN_ERROR = 30
LOG_TAIL_BYTES = 16_384


@dataclass(frozen=True)
class JobOutcome:
    """State of a job after its process has ended.

    Attributes:
        state: The state.
        reason: Why the job is not finished.
        exit_code: Exit code of the job; 1 if a signal killed it or another process runs it.

    Example:
        >>> JobOutcome(State.FAILED, reason="timed out after 60 s", exit_code=1).state
        <State.FAILED: 'failed'>
    """

    state: State
    reason: str = ""
    exit_code: int = 0


@dataclass(frozen=True)
class FolderSnapshot:
    """State of a run folder at the start of an attempt.

    Attributes:
        attempt: Number of earlier attempts.
        log_bytes: Length of the log.
        started: Start of the attempt, on the monotonic clock.
    """

    attempt: int
    log_bytes: int
    started: float


def take_snapshot(job: Job, *, is_started: bool = False) -> FolderSnapshot:
    """Return the state of a job's folder, to distinguish a new attempt from earlier ones.

    Args:
        job: The job.
        is_started: Whether a scheduler has it, so that its attempt may have begun already.
    """
    status, log_bytes = _status(job.run_dir), 0
    if is_started and status.get("state") != State.QUEUED:
        return FolderSnapshot(_attempt(status) - 1, log_bytes, time.monotonic())
    with contextlib.suppress(OSError):
        log_bytes = (job.run_dir / files.LOG).stat().st_size
    return FolderSnapshot(_attempt(status), log_bytes, time.monotonic())


def determine_outcome(job: Job, job_exit: JobExit, before: FolderSnapshot) -> JobOutcome:
    """Determine the state of a job after its process has ended, and complete its run folder.

    A job that was killed, hung or exited leaves a status ``running`` and a lock. Both are corrected
    here; the reason and the retry command are written to the files that a failed job writes.

    Args:
        job: The job.
        job_exit: How its process ended.
        before: State of the folder at the start of the attempt.
    """
    try:
        if completion_of(job.run_dir, job.identity, job.code).is_done(job.config.stale):
            return JobOutcome(State.FINISHED)
        if (holder := RunLock(job.run_dir).holder()) is not None:
            return running_elsewhere(holder)
        status = _status(job.run_dir)
        is_recorded = _attempt(status) > before.attempt and status.get("state") in (
            State.FAILED,
            State.PREEMPTED,
            State.INTERRUPTED,
            State.PRUNED,
        )
        is_overruled = job_exit.state == State.FAILED and job_exit.reason and not job_exit.yields
        if is_recorded and not is_overruled:
            code = status.get("exit_code") or RunError.exit_code
            reason = status.get("reason") or _last_line(job.run_dir, before) or job_exit.describe()
            return JobOutcome(State(status["state"]), _first_line(str(reason)), int(code))
        outcome = _outcome_of_exit(job, job_exit, before)
        if not files.is_finished(job.run_dir):  # a result of another job stays as it is
            with RunLock(job.run_dir):  # which also removes what the job left half-written
                remove_temporaries(job.run_dir / files.CHECKPOINTS, is_owner=True)
                _write_record(job, job_exit, before, outcome)
    except (OSError, RunError) as error:
        reason = f"{job_exit.describe()}; {reason_of(error)}"
        return JobOutcome(State.FAILED, reason, RunError.exit_code)
    return outcome


def running_elsewhere(holder: dict[str, Any] | None) -> JobOutcome:
    """Return the outcome of a job that another process is running.

    Args:
        holder: The content of its lock.

    Example:
        >>> running_elsewhere({"pid": 1234, "host": "node7"}).reason
        'its folder is in use by process 1234 on node7'
    """
    reason = f"its folder is in use by {describe_holder(holder)}"
    return JobOutcome(State.ELSEWHERE, reason, RunError.exit_code)


def _outcome_of_exit(job: Job, job_exit: JobExit, before: FolderSnapshot) -> JobOutcome:
    """Return the outcome of a job that recorded none."""
    reason = job_exit.describe()
    if job_exit.reason or job_exit.exit_code < 0:  # stopped by the launcher or by a signal
        return JobOutcome(job_exit.state, reason, RunError.exit_code)
    if job_exit.exit_code == 0:
        reason += f" but wrote no {files.RESULT}"
    if last := _last_line(job.run_dir, before):
        reason += f"; its log ends with: {last}"
    state = State.of_exit_code(job_exit.exit_code)
    state = job_exit.state if state in (State.FINISHED, State.FAILED) else state
    return JobOutcome(state, reason, job_exit.exit_code or RunError.exit_code)


def _write_record(job: Job, job_exit: JobExit, before: FolderSnapshot, outcome: JobOutcome) -> None:
    """Write status and error of a job that could not write them."""
    status = _status(job.run_dir)
    retry = files.retry_command(job.overrides)
    now = time.time()
    content = {
        "state": outcome.state,
        "pid": job_exit.pid,
        "host": socket.gethostname(),
        "started": now - job_exit.seconds,
        "updated": now,
        "attempt": max(_attempt(status), before.attempt + 1),
        "exit_code": job_exit.exit_code,
        "reason": outcome.reason,
        "retry": retry,
        "overrides": dict(job.distinguishing_overrides),
    }
    files.write_json(job.run_dir / files.STATUS, content)
    tail = "\n".join(_log_lines(job.run_dir, before)[-LOG_LINES_IN_ERROR:])
    text = f"{outcome.reason}\n\nRetry: {retry}\n"
    if tail:
        text += f"\nEnd of {files.LOG}:\n{tail}\n"
    files.write_text(job.run_dir / files.ERROR, text)


def _status(run_dir: Path) -> dict[str, Any]:
    try:
        return files.read_json(run_dir / files.STATUS) or {}
    except (OSError, RunError):  # it is replaced soon
        return {}


def _attempt(status: Mapping[str, Any]) -> int:
    attempt = status.get("attempt", 0)
    return attempt if isinstance(attempt, int) else 0


def _log_lines(run_dir: Path, before: FolderSnapshot) -> list[str]:
    """Return the last lines of this attempt's log."""
    try:
        with os.fdopen(open_file(run_dir / files.LOG, os.O_RDONLY), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(before.log_bytes, size - LOG_TAIL_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _last_line(run_dir: Path, before: FolderSnapshot) -> str:
    lines = (line.strip() for line in reversed(_log_lines(run_dir, before)))
    return next((line for line in lines if line), "")


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
