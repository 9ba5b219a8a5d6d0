"""Watching of jobs that SLURM runs, and what their ends mean."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mla_lightning import run_folder as files
from mla_lightning.errors import RunError
from mla_lightning.launchers.base import JobExit, JobQueue
from mla_lightning.launchers.slurm_submission import FOLDER
from mla_lightning.launchers.summary import count_jobs
from mla_lightning.run_folder import State
from mla_lightning.run_folder.squeue import QueuedTask, ask_queue
from mla_lightning.run_folder.stop_signals import exit_code_of_signal

if TYPE_CHECKING:
    from mla_lightning.config import Job

#: Seconds in which the files of a job that has ended may still arrive from another machine.
SETTLE_S = 15.0
TICK_S = 0.1
#: Final states of SLURM -> what they mean to a user.
REASONS = {
    "TIMEOUT": "its time limit was over (launcher.time_min)",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not start",
    "OUT_OF_MEMORY": "out of memory (launcher.memory_gb)",
    "DEADLINE": "its deadline was over",
    "CANCELLED": "cancelled in SLURM",
    "PREEMPTED": "preempted in SLURM",
    "REVOKED": "moved to another cluster by SLURM",
}
#: Those after which a job is not failed: someone, or the scheduler, wanted it so.
WANTED = ("CANCELLED", "PREEMPTED", "REVOKED")
#: States of run folders that a job has written at its end.
_ENDED = (State.FINISHED, State.FAILED, State.PREEMPTED, State.INTERRUPTED, State.PRUNED)


def exit_of(task: str, queued: QueuedTask | None, seconds: float, log_end: str = "") -> JobExit:
    """Return how a task of SLURM ended, for the conclusion of its job from its run folder.

    Args:
        task: Its name.
        queued: Its final state; None if SLURM does not know it any more.
        seconds: Its duration, as far as known.
        log_end: Last line that SLURM has of its output, if the run folder has none.

    Returns:
        The end. What the job has recorded itself counts more.

    Example:
        >>> job_exit = exit_of("17_3", QueuedTask("17_3", "OUT_OF_MEMORY", exit_code=-9), 60.0)
        >>> job_exit.state, job_exit.reason
        (<State.FAILED: 'failed'>, 'SLURM job 17_3: out of memory (launcher.memory_gb)')
        >>> exit_of("17_3", QueuedTask("17_3", "CANCELLED"), 60.0).state
        <State.PREEMPTED: 'preempted'>
    """
    if queued is None:
        reason = f"SLURM does not know job {task} any more"
        return JobExit(RunError.exit_code, seconds, 0, reason, State.FAILED, yields=True)
    code = queued.exit_code
    if queued.state in REASONS:
        state = State.PREEMPTED if queued.state in WANTED else State.FAILED
        reason = f"SLURM job {task}: {REASONS[queued.state]}"
        if queued.state in ("NODE_FAIL", "BOOT_FAIL") and queued.nodes:
            reason += f" ({queued.nodes})"
        return JobExit(code, seconds, 0, reason, state, yields=True)
    reason = f"SLURM job {task} ended with exit code {code}; {log_end}" if log_end else ""
    return JobExit(code, seconds, 0, reason, State.FAILED, yields=True)


def names_of_arrays(tasks: Iterable[str]) -> list[str]:
    """Return the arrays of tasks, each once.

    Example:
        >>> names_of_arrays(["17_0", "17_3", "18_0"])
        ['17', '18']
    """
    return list(dict.fromkeys(task.partition("_")[0] for task in tasks))


class Watch:
    """Jobs of a sweep that SLURM has."""

    def __init__(
        self,
        queue: JobQueue,
        tasks: dict[str, Job],
        signals: list[signal.Signals],
        poll_s: float,
        *,
        requeues: bool,
    ) -> None:
        """Prepare the watching.

        Args:
            queue: The jobs of the sweep.
            tasks: Name of a task -> its job, which was taken or adopted.
            signals: Signals that this process has received.
            poll_s: Seconds between two questions to SLURM.
            requeues: Whether jobs go on by themselves.
        """
        self.queue, self.tasks, self.signals = queue, tasks, signals
        self.poll_s, self.requeues = poll_s, requeues
        self._ended: dict[str, float] = {}
        self._restarts: Counter[str] = Counter()
        self._was_asked = True

    def run(self) -> int:
        """Watch until all jobs have ended.

        Returns:
            0; 130 if Ctrl-C, 143 if another signal ended the watching.
        """
        next_poll = 0.0
        while self.tasks:
            if self.signals:
                self.leave()
                return exit_code_of_signal(self.signals[0])
            if time.monotonic() >= next_poll:
                self.poll()
                next_poll = time.monotonic() + self.poll_s
            self.queue.refresh()
            time.sleep(min(TICK_S, self.poll_s))
        return 0

    def leave(self) -> None:
        """End the watching; the jobs go on."""
        arrays = names_of_arrays(self.tasks)
        is_one = len(self.tasks) == 1
        self.queue.leave(
            list(self.tasks.values()),
            f"{count_jobs(len(self.tasks))} {'goes' if is_one else 'go'} on in SLURM as "
            f"{', '.join(arrays)}. The same command watches {'it' if is_one else 'them'} again; "
            f"`scancel {' '.join(arrays)}` cancels {'it' if is_one else 'them'}.",
        )

    def poll(self) -> None:
        """Ask SLURM once for all jobs, and record the ends of jobs."""
        states = ask_queue(self.tasks)
        if (states is not None) != self._was_asked:
            self._was_asked = states is not None
            text = "SLURM answers again." if self._was_asked else "SLURM does not answer; waiting."
            self.queue.print_line(text)
        if states is None:
            return
        for task, job in list(self.tasks.items()):
            state = states.get(task)
            if state is not None and state.is_active:
                self._ended.pop(task, None)
                self._note_restart(task, job, state)
                self.queue.set_queued(job, state.is_waiting)
            elif self._has_settled(task, job, state):
                del self.tasks[task]
                seconds = _duration(job)
                log_end = "" if state is None else self._log_end(task, job)
                self.queue.record_exit(job, exit_of(task, state, seconds, log_end))

    def _note_restart(self, task: str, job: Job, state: QueuedTask) -> None:
        if state.restart > self._restarts[task]:
            self._restarts[task] = state.restart
            self.queue.print_line(f"requeued: {job.title} as {task}, start {state.restart + 1}")

    def _has_settled(self, task: str, job: Job, state: QueuedTask | None) -> bool:
        """Return whether the run folder says how a job ended, or has had the time to do so."""
        since = self._ended.setdefault(task, time.monotonic())
        if time.monotonic() - since > SETTLE_S:
            return True
        try:
            recorded = files.state_of(job.run_dir)
        except RunError:
            return False
        if recorded == State.QUEUED:  # it has not started, or was killed while it started
            return state is None or state.state in WANTED
        if recorded == State.PREEMPTED and self.requeues and state is not None:
            return state.state in REASONS  # else it may be about to be requeued
        return recorded in _ENDED

    @staticmethod
    def _log_end(task: str, job: Job) -> str:
        """Return the last line of a job's output before it had a log."""
        array, _, number = task.partition("_")
        for path in (job.run_dir.parent / FOLDER).glob(f"*/{array}_{number}.log"):
            try:
                lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            except OSError:
                continue
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            return f"{os.path.relpath(path)} ends with: {last}" if last else ""
        return ""


def _duration(job: Job) -> float:
    """Return the seconds of a job's last attempt, from its status; 0 if it has none."""
    try:
        status = files.read_json(job.run_dir / files.STATUS) or {}
        return max(0.0, float(status["updated"]) - float(status["started"]))
    except (RunError, OSError, KeyError, TypeError, ValueError):
        return 0.0
