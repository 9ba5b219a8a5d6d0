"""What became of a job, and the record of it where the job could not write that itself."""

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
from mla_lightning.errors import RunError
from mla_lightning.launchers.base import Ended
from mla_lightning.run_folder import State
from mla_lightning.run_folder.standing import completion_of
from mla_lightning.run_lock import RunLock

if TYPE_CHECKING:
    from mla_lightning.config import Job

LOG_LINES_IN_ERROR = 30
LOG_TAIL_BYTES = 16_384


@dataclass(frozen=True)
class Conclusion:
    """What became of a job.

    Attributes:
        state: One that an ended job can be in.
        reason: Why it is not finished.
        exit_code: Of the job, 1 where it has none that means anything to a caller.
    """

    state: State
    reason: str = ""
    exit_code: int = 0


@dataclass(frozen=True)
class Before:
    """What a run folder held when an attempt began.

    Attributes:
        attempt: Number of earlier attempts.
        log_bytes: Length of the log.
        started: When the attempt began, on the monotonic clock.
    """

    attempt: int
    log_bytes: int
    started: float


def look_before(job: Job) -> Before:
    """Take down what the run folder holds, to tell this attempt from earlier ones afterwards."""
    with contextlib.suppress(OSError):
        log_bytes = (job.run_dir / files.LOG).stat().st_size
        return Before(_attempt(_status(job.run_dir)), log_bytes, time.monotonic())
    return Before(_attempt(_status(job.run_dir)), 0, time.monotonic())


def conclude(job: Job, how: Ended, before: Before) -> Conclusion:
    """Find out what became of a job, and complete its run folder.

    A job that was killed, hung or exited leaves a status that says that it runs, and a lock. Both
    are put right here, and the reason and the command to retry are written where a failed job
    writes them.

    Args:
        job: The job; its process has ended.
        how: How it ended.
        before: What the folder held before.

    Returns:
        What became of it.
    """
    try:
        if completion_of(job.run_dir, job.identity, job.code).is_done(job.config.stale):
            return Conclusion(State.FINISHED)
        if (holder := RunLock(job.run_dir).holder()) and holder["pid"] != how.pid:
            return elsewhere(holder)
        status = _status(job.run_dir)
        is_recorded = _attempt(status) > before.attempt and status.get("state") in (
            State.FAILED,
            State.PREEMPTED,
            State.INTERRUPTED,
        )
        is_overruled = how.state == State.FAILED and how.reason
        if is_recorded and not is_overruled:
            code = status.get("exit_code") or RunError.exit_code
            reason = str(status.get("reason") or _last_line(job.run_dir, before) or how.describe())
            return Conclusion(State(status["state"]), _first_line(reason), int(code))
        conclusion = _without_record(job, how, before)
        if not files.is_finished(
            job.run_dir
        ):  # else the folder is another job's, and is left alone
            _record(job, how, before, conclusion)
    except (OSError, RunError) as error:
        return Conclusion(State.FAILED, f"{how.describe()}; {error}", RunError.exit_code)
    return conclusion


def elsewhere(holder: Mapping[str, Any] | None) -> Conclusion:
    """Describe a job that another process is running.

    Args:
        holder: The content of its lock.
    """
    by = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
    return Conclusion(State.ELSEWHERE, f"its folder is in use by {by}", RunError.exit_code)


def _without_record(job: Job, how: Ended, before: Before) -> Conclusion:
    reason = how.describe()
    if how.reason or how.exit_code < 0:  # ended from outside: no exit code of its own
        return Conclusion(how.state, reason, RunError.exit_code)
    if how.exit_code == 0:
        reason += f" but wrote no {files.RESULT}"
    if last := _last_line(job.run_dir, before):
        reason += f"; its log ends with: {last}"
    state = State.of_exit_code(how.exit_code)
    state = how.state if state in (State.FINISHED, State.FAILED) else state
    return Conclusion(state, reason, how.exit_code or RunError.exit_code)


def _record(job: Job, how: Ended, before: Before, conclusion: Conclusion) -> None:
    RunLock(job.run_dir).remove_stale()
    status = _status(job.run_dir)
    retry = files.retry_command(job.overrides)
    now = time.time()
    content = {
        "state": conclusion.state,
        "pid": how.pid,
        "host": socket.gethostname(),
        "started": now - how.seconds,
        "updated": now,
        "attempt": max(_attempt(status), before.attempt + 1),
        "exit_code": how.exit_code,
        "reason": conclusion.reason,
        "retry": retry,
        "overrides": dict(job.distinguishing_overrides),
    }
    files.write_json(job.run_dir / files.STATUS, content)
    tail = "\n".join(_log_of(job.run_dir, before)[-LOG_LINES_IN_ERROR:])
    text = f"{conclusion.reason}\n\nRetry: {retry}\n"
    if tail:
        text += f"\nEnd of {files.LOG}:\n{tail}\n"
    files.write_text(job.run_dir / files.ERROR, text)


def _status(run_dir: Path) -> dict[str, Any]:
    try:
        return files.read_json(run_dir / files.STATUS) or {}
    except (OSError, RunError):  # about to be replaced
        return {}


def _attempt(status: Mapping[str, Any]) -> int:
    attempt = status.get("attempt", 0)
    return attempt if isinstance(attempt, int) else 0


def _log_of(run_dir: Path, before: Before) -> list[str]:
    """Read the end of what this attempt logged."""
    try:
        with (run_dir / files.LOG).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(before.log_bytes, size - LOG_TAIL_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _last_line(run_dir: Path, before: Before) -> str:
    lines = (line.strip() for line in reversed(_log_of(run_dir, before)))
    return next((line for line in lines if line), "")


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
