"""One job of a list, as a task of SLURM runs it: ``python -m mla_lightning.launchers.task``.

Signals are handled before anything else is imported: a warning that arrives during an import must
neither end the process with a code that SLURM takes for a failure, nor raise within the import.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from mla_lightning.config import Job
    from mla_lightning.launchers.slurm_script import JobLine

_PREEMPTED, _INTERRUPTED = 143, 130
_STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


class TaskSignals:
    """The signals that a task receives, also those that a run in progress handles itself.

    While no run is in progress, a signal ends the process at once: nothing is lost then.
    """

    def __init__(self, max_requeues: int | None) -> None:
        """Set the handlers.

        Args:
            max_requeues: Number of times that the job goes on by itself; None if it does not.
        """
        self.max_requeues = max_requeues
        self._process = os.getpid()
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # told by every later handler, too
        for number in _STOPPING:
            signal.signal(number, self._end)

    def _end(self, number: int, _frame: object) -> None:
        if os.getpid() == self._process:  # not a forked process that has just started
            self.end(_INTERRUPTED if number == signal.SIGINT else _PREEMPTED)

    def end(self, code: int) -> NoReturn:
        """End the process, whose run has ended with a code; requeue it if its time is up."""
        for number in _STOPPING:  # its own requeue sends SIGTERM
            signal.signal(number, signal.SIG_IGN)
        if code == _PREEMPTED and self._first() == signal.SIGUSR2:
            self._requeue()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the signal may have come within a print
                stream.flush()
        os._exit(code)

    def _first(self) -> int:
        """Return the first signal that asked to stop; 0 if there was none.

        Others are told, too: torch handles the end of a loader's worker, SIGCHLD.
        """
        while True:
            try:
                told = os.read(self._reader, 4096)
            except BlockingIOError:
                return 0
            for number in told:
                if number in _STOPPING:
                    return number

    def _requeue(self) -> None:
        """Let SLURM start this task again; of several processes the first one asks for it."""
        restart = _number("SLURM_RESTART_COUNT")
        if self.max_requeues is None or _number("SLURM_PROCID"):
            return
        if restart >= self.max_requeues:
            _say(f"Not requeued again: launcher.max_requeues={self.max_requeues}.")
            return
        # by its name in the array: the number of the last task is also that of the whole array
        task = os.environ["SLURM_JOB_ID"]
        if "SLURM_ARRAY_JOB_ID" in os.environ:
            task = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        _say(f"Its time is up: requeued as {task}, start {restart + 2}.")
        try:
            subprocess.run(["scontrol", "requeue", task], check=True, timeout=60)
        except (OSError, subprocess.SubprocessError) as error:
            _say(f"error: it could not be requeued: {error}")


def _say(text: str) -> None:
    """Write a line to the log, also within a print that a signal has interrupted."""
    os.write(1, f"{text}\n".encode())


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run a job and end the process with its exit code.

    Args:
        words: File of the list, number of the job from 0, and ``--max-requeues=N`` if the job goes
            on by itself; None for the arguments of this process.
    """
    words = sys.argv[1:] if words is None else words
    limit = [word.partition("=")[2] for word in words if word.startswith("--max-requeues=")]
    file, number = [word for word in words if not word.startswith("--")]
    signals = TaskSignals(int(limit[0]) if limit else None)
    code = 1
    try:
        code = run_task(Path(file), int(number), signals.max_requeues)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # SLURM's record is to be the exit code of the job
        import traceback

        traceback.print_exc()
    finally:
        signals.end(code & 0xFF)


def run_task(file: Path, number: int, max_requeues: int | None = None) -> int:
    """Run one job of a list, with its output in the log of its run folder.

    Args:
        file: The list.
        number: Number of the job, from 0.
        max_requeues: Number of times that it goes on by itself; None for no bound.

    Returns:
        The exit code of the job. One that cannot start has the reason in its run folder.
    """
    import importlib

    from mla_lightning import run_folder as files
    from mla_lightning.errors import MLAError, RunError, reason_of
    from mla_lightning.launchers.child import redirect_to
    from mla_lightning.launchers.slurm_script import read_list
    from mla_lightning.run_folder.writing import open_file

    try:
        lines = read_list(file)
        if not 0 <= number < len(lines):
            raise RunError(f"{file} has {len(lines)} jobs, from 0; there is no number {number}")
        line = lines[number]
        with files.not_world_writable():
            line.run_dir.mkdir(parents=True, exist_ok=True)
            redirect_to(open_file(line.run_dir / files.LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    except (MLAError, OSError) as error:
        print(f"error: {reason_of(error)}", file=sys.stderr)
        return error.exit_code if isinstance(error, MLAError) else RunError.exit_code
    try:
        if not _number("SLURM_PROCID"):
            check_progress(file, number, line.run_dir, max_requeues)
        job = compose_line(line)
        importlib.import_module("mla_lightning.run.preflight").check_before_start([job])
    except Exception as error:  # also one of the user's own classes
        known = isinstance(error, MLAError | OSError)
        reason = reason_of(error) if known else f"{type(error).__name__}: {error}"
        code = error.exit_code if isinstance(error, MLAError) else RunError.exit_code
        print(f"error: {reason}", file=sys.stderr)
        with files.not_world_writable():
            _record(line, reason, code)
        return code
    return int(importlib.import_module("mla_lightning.run.train").run_job(job))


def compose_line(line: JobLine) -> Job:
    """Compose the job of a line, as it was when it was submitted.

    Args:
        line: The line.

    Returns:
        The job. It does not overwrite: what it replaces was moved away when it was submitted, and a
        later start must resume.

    Raises:
        ConfigError: If the config is wrong, such as after a change of the user's files.
        DataError: If the data are missing.
        RunError: If its config, data or code are not those that were submitted.
    """
    from dataclasses import replace

    from mla_lightning.config import compose_jobs
    from mla_lightning.errors import RunError

    words, config_dir, allowed = list(line.words), None, []
    while words and words[0] in ("--config-dir", "--allow-target"):
        flag, value, *words = words
        if flag == "--config-dir":
            config_dir = Path(value)
        else:
            allowed.append(value)
    (job,) = compose_jobs(words, config_dir=config_dir, allowed=allowed)
    changed = ""
    if job.identity != line.identity:
        changed = "config or data"
    elif job.code.hash != line.code:
        changed = "code"
    if changed:
        raise RunError(
            f"its {changed} changed after it was submitted to SLURM, so it was not run: its result "
            "would not be what was asked for. Run the same command again to submit it as it is now."
        )
    config = replace(job.config, overwrite=False)
    return replace(job, config=config, run_dir=line.run_dir, floor=line.floor)


def check_progress(file: Path, number: int, run_dir: Path, max_requeues: int | None) -> None:
    """Record a start of a job, and check that its earlier starts achieved something.

    Args:
        file: The list of jobs; the starts are recorded in a folder beside it.
        number: Number of the job.
        run_dir: Its run folder.
        max_requeues: Number of times that it goes on by itself; None for no bound.

    Raises:
        RunError: If it was requeued more often, or if two starts running wrote no checkpoint.
    """
    from mla_lightning import run_folder as files
    from mla_lightning.errors import RunError
    from mla_lightning.launchers.slurm_script import STARTS

    names = (path.name for path in (run_dir / files.CHECKPOINTS).glob("epoch=*.ckpt"))
    newest = max(names, default="none")
    path = file.with_name(STARTS) / str(number)
    earlier = path.read_text(encoding="utf-8").split() if path.exists() else []
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as starts:
        starts.write(f"{newest}\n")
    if max_requeues is None:
        return
    restart = _number("SLURM_RESTART_COUNT")
    if restart > max_requeues:
        raise RunError(
            f"SLURM has started it again {restart} times, more than launcher.max_requeues="
            f"{max_requeues}. Run the same command again to go on from its last checkpoint."
        )
    if restart and earlier[-2:] == [newest, newest]:
        raise RunError(
            "its last two starts ended without a new checkpoint, so it was not started again. "
            "Allow more time (launcher.time_min) or memory (launcher.memory_gb), or write "
            "checkpoints more often (checkpoint.every_n_batches), and run the same command again."
        )


def _record(line: JobLine, reason: str, code: int) -> None:
    """Write the reason why a job could not start to its folder, if no other process has it.

    Of several processes of a job, the first one that fails writes it: the others are killed then.
    """
    import socket
    import time

    from mla_lightning import run_folder as files
    from mla_lightning.config.secrets import mask_secrets
    from mla_lightning.errors import RunError
    from mla_lightning.run_folder.lock import RunLock
    from mla_lightning.run_folder.scheduler import this_job

    reason, retry = mask_secrets(reason), files.retry_command(line.words)
    with contextlib.suppress(RunError, OSError), RunLock(line.run_dir):
        if files.is_finished(line.run_dir):
            return
        status = files.read_json(line.run_dir / files.STATUS) or {}
        is_recorded = status.get("state") == files.State.FAILED
        if is_recorded and status.get("scheduler_job") == this_job():
            return  # by another process of the same start
        now = time.time()
        status |= {
            "state": files.State.FAILED,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": now,
            "updated": now,
            "attempt": int(status.get("attempt", 0)) + 1,
            "exit_code": code,
            "reason": reason,
            "retry": retry,
            "scheduler_job": this_job(),
        }
        files.write_json(line.run_dir / files.STATUS, status)
        files.write_text(line.run_dir / files.ERROR, f"{reason}\n\nRetry: {retry}\n")


def _number(name: str) -> int:
    """Return the number in a variable of SLURM; 0 if it is not set."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0


if __name__ == "__main__":
    main()
