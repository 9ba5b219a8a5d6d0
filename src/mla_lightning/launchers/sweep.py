"""Sweeps: skip finished jobs, run the others, and report failures with their retry commands.

The state of a sweep is in its run folders only. It can therefore be started again after any end,
in another terminal at the same time, or with another launcher, and never repeats a finished job.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning import run_folder as files
from mla_lightning.errors import Interrupted, MLAError, RunError, reason_of
from mla_lightning.launchers.base import JobExit, Launcher, unique_jobs
from mla_lightning.launchers.conclusion import (
    FolderSnapshot,
    JobOutcome,
    determine_outcome,
    running_elsewhere,
    take_snapshot,
)
from mla_lightning.launchers.display import (
    PlainDisplay,
    Progress,
    choose_display,
)
from mla_lightning.launchers.summary import (
    CONTINUE,
    ENDED_WELL,
    count_jobs,
    describe_stale,
    print_summary,
    validation_score,
)
from mla_lightning.run_folder import State
from mla_lightning.run_folder.completion import (
    Completion,
    CompletionKind,
    complete_set_aside,
    completion_of,
    set_aside,
)
from mla_lightning.run_folder.contents import check_run_folder
from mla_lightning.run_folder.lock import RunLock

if TYPE_CHECKING:
    from mla_lightning.config import Job

#: Seconds that a sweep waits for jobs of another process, such as the last children of a killed
#: sweep that are writing their checkpoints.
PATIENCE_S = 5.0
#: Seconds until the lock of a job that another process is running is read again.
LOCK_RETRY_S = 0.5


def run_sweep(
    jobs: Sequence[Job],
    launcher: Launcher,
    overwrite: bool = False,
    *,
    patience_s: float = PATIENCE_S,
) -> int:
    """Run all jobs that are not finished.

    Args:
        jobs: The jobs.
        launcher: The launcher that runs them.
        overwrite: Whether to run finished jobs again.
        patience_s: Seconds to wait at the end for jobs that another process is running.

    Returns:
        0 if every job is finished; 130 or 143 if a signal stopped the sweep; else the exit code
        that all unfinished jobs share, or 1.

    Raises:
        ConfigError: If different jobs have the same folder, or this machine has not enough cores.
            No job has been started then.
    """
    jobs = unique_jobs(jobs)
    launcher.check(jobs)
    with files.not_world_writable(), choose_display(launcher.has_free_terminal) as display:
        sweep = Sweep(jobs, launcher.concurrency, overwrite, display)
        sweep.show_start()
        try:
            code = launcher.launch(sweep)
            while code == 0 and sweep.wait_for_free_folder(patience_s):
                code = launcher.launch(sweep)
        except KeyboardInterrupt:
            code = Interrupted.exit_code
    sweep.print_summary()
    return code or sweep.exit_code()


class Sweep:
    """The waiting, running and ended jobs of a sweep; the queue of its launcher."""

    def __init__(
        self, jobs: Sequence[Job], concurrency: int, overwrite: bool, display: PlainDisplay
    ) -> None:
        """Find the jobs that are already finished.

        Args:
            jobs: The jobs, each with its own folder.
            concurrency: Number of jobs at a time, to estimate the time left.
            overwrite: Whether to run finished jobs again.
            display: The display of the sweep.
        """
        self.jobs = jobs
        self.concurrency = concurrency
        self.overwrite = overwrite
        self.display = display
        self.outcomes: dict[Path, JobOutcome] = {}
        self.num_finished_before = 0
        #: Jobs that were finished by other code, with the files that changed since.
        self.stale: dict[Path, Completion] = {}
        self._num_ended: Counter[State] = Counter()
        # In order; unlike a dict it finds the first at once after many were removed.
        self._waiting: OrderedDict[Path, Job] = OrderedDict()
        self._running: dict[Path, tuple[Job, FolderSnapshot]] = {}
        #: Those of the running ones that still wait in a scheduler's queue.
        self._queued: set[Path] = set()
        #: Jobs that go on in a scheduler after this sweep.
        self._left: dict[Path, State] = {}
        self._notes: list[str] = []
        self._next_check: dict[Path, float] = {}
        self._num_timed = 0
        self._total_s = 0.0
        self._started = time.monotonic()
        for job in jobs:
            if not self._record_if_finished(job, records_stale=True):
                self._waiting[job.run_dir] = job
        self.num_finished_before = len(self.outcomes)

    # ------------------------------------------------------------------ queue of the launcher

    def waiting(self) -> Sequence[Job]:
        """Return the jobs that have not been taken."""
        return tuple(self._waiting.values())

    def take(self) -> Job | None:
        """Take the next job whose folder is not in use; None if there is none at the moment.

        Folders are checked now and not at the start, so that two sweeps can share their jobs.
        """
        while (job := self._next_free()) is not None:
            if self.claim(job):
                return job
        return None

    def claim(self, job: Job) -> bool:
        """Take a certain waiting job, whose folder is not in use.

        Args:
            job: The job.

        Returns:
            False if it is finished by now, or its folder cannot be used; that is recorded then.
        """
        del self._waiting[job.run_dir]
        # The lock was checked first, because its holder keeps it until the job is finished.
        if self._record_if_finished(job):
            self._show_end(job, "by another process")
            return False
        try:
            job.run_dir.mkdir(parents=True, exist_ok=True)
            if self.overwrite:
                self._set_aside(job)
        except (OSError, MLAError) as error:
            if isinstance(error, MLAError):
                reason, code = str(error), error.exit_code
            else:
                reason = f"its folder cannot be used: {reason_of(error)}"
                code = RunError.exit_code
            self._record(job, JobOutcome(State.FAILED, reason, code))
            self._show_end(job, "")
            return False
        self._running[job.run_dir] = (job, take_snapshot(job))
        return True

    def adopt(self, job: Job) -> None:
        """Take a waiting job that a scheduler has from an earlier sweep, even if it runs."""
        del self._waiting[job.run_dir]
        self._running[job.run_dir] = (job, take_snapshot(job, is_started=True))

    def set_queued(self, job: Job, is_queued: bool) -> None:
        """Record whether a job that was taken waits in a scheduler's queue."""
        if is_queued:
            self._queued.add(job.run_dir)
        elif job.run_dir in self._queued:
            self._queued.remove(job.run_dir)
            before = self._running[job.run_dir][1]
            self._running[job.run_dir] = (job, replace(before, started=time.monotonic()))

    def leave(self, jobs: Sequence[Job], note: str) -> None:
        """Record that jobs which were taken go on in a scheduler, without this sweep.

        Args:
            jobs: The jobs.
            note: Where they are and how to watch them again, for the summary.
        """
        for job in jobs:
            del self._running[job.run_dir]
            state = State.QUEUED if job.run_dir in self._queued else State.RUNNING
            self._queued.discard(job.run_dir)
            self._left[job.run_dir] = state
        self._notes.append(note)

    def print_line(self, text: str) -> None:
        """Print a line above the display."""
        self.display.print_line(text)

    def _next_free(self) -> Job | None:
        """Return the first waiting job whose folder is not in use."""
        for job in self._waiting.values():
            if time.monotonic() < self._next_check.get(job.run_dir, 0.0):
                continue
            if RunLock(job.run_dir).holder() is None:
                return job
            self._next_check[job.run_dir] = time.monotonic() + LOCK_RETRY_S
        return None

    @staticmethod
    def _set_aside(job: Job) -> None:
        """Move the run in a job's folder away, so that its result is not taken for the new one."""
        check_run_folder(job.run_dir, overwrite=True)
        with RunLock(job.run_dir):
            complete_set_aside(job.run_dir)
            set_aside(job.run_dir, until_replaced=True)

    def record_exit(self, job: Job, job_exit: JobExit) -> bool:
        """Record how a job ended.

        Args:
            job: The job.
            job_exit: How its process ended.

        Returns:
            False if the job failed, or a signal stopped it.
        """
        _, before = self._running.pop(job.run_dir)
        self._queued.discard(job.run_dir)
        outcome = determine_outcome(job, job_exit, before)
        if outcome.state == State.ELSEWHERE:  # another sweep has locked the folder in between
            self._waiting[job.run_dir] = job
            return True
        self._record(job, outcome)
        if outcome.state == State.FINISHED:
            self._num_timed += 1
            self._total_s += job_exit.seconds
        self._show_end(job, f"{job_exit.seconds:.1f} s")
        return outcome.state in ENDED_WELL

    def give_back(self, job: Job) -> None:
        """Take back a job that was taken and not started.

        Args:
            job: The job.
        """
        del self._running[job.run_dir]
        self._waiting[job.run_dir] = job
        with suppress(OSError):  # an empty folder is no run
            job.run_dir.rmdir()

    def refresh(self) -> None:
        """Refresh the display."""
        self.display.refresh(self.progress())

    # ------------------------------------------------------------------ display and summary

    def progress(self) -> Progress:
        """Return the progress of the sweep."""
        now = time.monotonic()
        running = [
            (job.title, now - before.started)
            for folder, (job, before) in self._running.items()
            if folder not in self._queued
        ]
        num_to_go = len(self._waiting) + len(self._queued)
        left = None
        if self._num_timed:
            mean = self._total_s / self._num_timed
            left = mean * num_to_go + sum(max(mean - age, 0.0) for _, age in running)
            # in a scheduler's queue, those that run now say how many do at a time
            limit = max(1, len(running)) if self._queued else self.concurrency
            left /= min(limit, max(1, num_to_go + len(running)))
        num_finished = sum(self._num_ended[state] for state in ENDED_WELL)
        num_failed = len(self.outcomes) - num_finished
        queued = len(self._queued)
        return Progress(len(self.jobs), num_finished, num_failed, running, left, queued)

    def show_start(self) -> None:
        """Show how many jobs are finished, which of them by other code, and how many will run."""
        if self.num_finished_before or self.stale:
            num_current = sum(folder not in self.stale for folder in self.outcomes)
            num_unfinished = len(self.jobs) - num_current - len(self.stale)
            self.display.print_line(
                f"{count_jobs(len(self.jobs))}: {num_current} finished before and not run again, "
                f"{len(self.stale)} finished by other code, {num_unfinished} not finished."
            )
        if self.stale:
            is_kept = self.stale.keys() <= self.outcomes.keys()
            self.display.print_line(describe_stale(self.stale.values(), is_kept=is_kept))
        if self._waiting:
            number = count_jobs(len(self._waiting))
            self.display.print_line(f"Running {number}, up to {self.concurrency} at a time.")

    def print_summary(self) -> None:
        """Print the number of jobs by state, and reason and retry command of unfinished ones."""
        states = {job.run_dir: self._final_state(job) for job in self.jobs}
        duration = time.monotonic() - self._started
        is_continued = bool(set(states.values()) - ENDED_WELL - set(self._left.values()))
        notes = [*self._notes, *([CONTINUE] if is_continued else [])]
        print_summary(self.jobs, states, self.outcomes, duration, notes)

    def _final_state(self, job: Job) -> State:
        outcome = self.outcomes.get(job.run_dir)
        return outcome.state if outcome else self._left.get(job.run_dir, State.NOT_STARTED)

    def exit_code(self) -> int:
        """Return the exit code: 0 if all jobs are finished, else the one they share, or 1.

        Jobs that go on in a scheduler count as finished.
        """
        if len(self.outcomes) + len(self._left) < len(self.jobs):
            return RunError.exit_code
        codes = {o.exit_code for o in self.outcomes.values() if o.state not in ENDED_WELL}
        if not codes:
            return 0
        code = codes.pop()
        return code if not codes and code > 0 else RunError.exit_code

    # ------------------------------------------------------------------ jobs of other processes

    def wait_for_free_folder(self, patience_s: float) -> bool:
        """Wait until another process releases the folder of a waiting job.

        Args:
            patience_s: Largest number of seconds to wait.

        Returns:
            Whether a job can be taken now. If not, the waiting jobs count as running elsewhere.
        """
        if not self._waiting:
            return False
        until = time.monotonic() + patience_s
        is_shown = False
        while None not in (holders := self._holders()):
            if time.monotonic() > until:
                for job, holder in zip(self.waiting(), holders, strict=True):
                    self._record(job, running_elsewhere(holder))
                    self._show_end(job, "")
                self._waiting.clear()
                return False
            if not is_shown:
                is_shown = True
                number = count_jobs(len(self._waiting))
                self.display.print_line(f"Waiting for {number} that another process is running.")
            time.sleep(0.05)
        self._next_check.clear()
        return True

    def _holders(self) -> list[dict[str, Any] | None]:
        return [RunLock(job.run_dir).holder() for job in self._waiting.values()]

    def _record_if_finished(self, job: Job, *, records_stale: bool = False) -> bool:
        """Record the outcome of a finished job; return whether it is finished."""
        if self.overwrite:
            return False
        try:
            completion = completion_of(job.run_dir, job.identity, job.code)
        except RunError:  # damaged files, which the job itself will report
            return False
        if completion.kind is CompletionKind.STALE and records_stale:
            self.stale[job.run_dir] = completion
        is_finished = completion.is_done(job.config.stale)
        if is_finished:
            self._record(job, JobOutcome(State.FINISHED))
        return is_finished

    def _record(self, job: Job, outcome: JobOutcome) -> None:
        """Record how a job ended, once for each job, and count it."""
        self.outcomes[job.run_dir] = outcome
        self._num_ended[outcome.state] += 1

    def _show_end(self, job: Job, detail: str) -> None:
        outcome = self.outcomes[job.run_dir]
        result = validation_score(job) if outcome.state == State.FINISHED else outcome.reason
        detail = f"{result}  {detail}".strip()
        self.display.show_end(self.progress(), job.title, outcome.state, detail)
