"""Many jobs: skip what is done, run the rest, say what failed and how to go on.

The run folders are the only memory. So a sweep can be started again after any end, in another
terminal at the same time, or with another launcher half way, and never repeats a finished job.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning import run_folder as files
from mla_lightning.errors import ConfigError, Interrupted, RunError
from mla_lightning.launchers.base import Ended, Launcher
from mla_lightning.launchers.conclusion import (
    Before,
    Conclusion,
    conclude,
    elsewhere,
    look_before,
)
from mla_lightning.launchers.display import PlainDisplay, Tally, choose_display, clock
from mla_lightning.run_folder import State
from mla_lightning.run_folder.standing import EARLIER, Completion, CompletionKind, completion_of
from mla_lightning.run_lock import RunLock

if TYPE_CHECKING:
    from mla_lightning.config import Job

#: How long a sweep waits for jobs that another process holds, such as the last children of a
#: killed sweep that are writing their checkpoints.
PATIENCE_S = 5.0
LOOK_AGAIN_S = 0.5


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
        launcher: Runs them.
        overwrite: Run finished jobs again.
        patience_s: Seconds to wait in the end for jobs that another process is running.

    Returns:
        0 if every job is finished; 130 or 143 if the sweep was told to stop; else the exit code
        that all unfinished jobs share, or 1.

    Raises:
        ConfigError: If two different jobs have one folder, or this machine cannot run the jobs as
            asked. Nothing has been started then.
    """
    jobs = _without_repetitions(jobs)
    launcher.check(jobs)
    with files.not_world_writable(), choose_display(launcher.has_free_terminal) as display:
        sweep = Sweep(jobs, launcher.concurrency, overwrite, display)
        sweep.announce()
        try:
            code = launcher.launch(sweep)
            while code == 0 and sweep.wait_for_a_free_folder(patience_s):
                code = launcher.launch(sweep)
        except KeyboardInterrupt:
            code = Interrupted.exit_code
    sweep.summarise()
    return code or sweep.exit_code()


class Sweep:
    """The board of :mod:`mla_lightning.launchers.base`: who is waiting, running, done."""

    def __init__(
        self, jobs: Sequence[Job], concurrency: int, overwrite: bool, display: PlainDisplay
    ) -> None:
        """Look which jobs are finished.

        Args:
            jobs: The jobs, each with a folder of its own.
            concurrency: How many run at a time, for the time left.
            overwrite: Take finished jobs for unfinished.
            display: Where to report.
        """
        self.jobs = jobs
        self.concurrency = concurrency
        self.overwrite = overwrite
        self.display = display
        self.conclusions: dict[Path, Conclusion] = {}
        self.num_finished_before = 0
        #: Finished by other code than today's, with the files that changed since.
        self.stale: dict[Path, Completion] = {}
        self._waiting: list[Job] = []
        self._running: dict[Path, tuple[Job, Before]] = {}
        self._held_until: dict[Path, float] = {}
        self._durations: list[float] = []
        self._begun = time.monotonic()
        for job in jobs:
            if not self._is_finished(job, is_first_look=True):
                self._waiting.append(job)
        self.num_finished_before = len(self.conclusions)

    # ------------------------------------------------------------------ what a launcher asks

    def waiting(self) -> Sequence[Job]:
        """Name the jobs that have not been handed out yet."""
        return tuple(self._waiting)

    def take(self) -> Job | None:
        """Hand out the next job whose folder is free, None if there is none just now.

        Folders are looked at now and not at the start, so two sweeps share their work.
        """
        for job in tuple(self._waiting):
            if time.monotonic() < self._held_until.get(job.run_dir, 0.0):
                continue
            if RunLock(job.run_dir).holder() is not None:
                self._held_until[job.run_dir] = time.monotonic() + LOOK_AGAIN_S
            elif self._is_finished(job):  # looked at after the lock: its holder finishes first
                self._waiting.remove(job)
                self._report(job, "by another process")
            else:
                self._waiting.remove(job)
                try:
                    job.run_dir.mkdir(parents=True, exist_ok=True)
                    if self.overwrite:
                        (job.run_dir / files.RESULT).unlink(missing_ok=True)
                except OSError as error:
                    reason = f"its folder cannot be used: {error}"
                    self.conclusions[job.run_dir] = Conclusion(
                        State.FAILED, reason, RunError.exit_code
                    )
                    self._report(job, "")
                    continue
                self._running[job.run_dir] = (job, look_before(job))
                return job
        return None

    def ended(self, job: Job, how: Ended) -> bool:
        """Take note of how a job ended.

        Args:
            job: The job.
            how: How its process ended.

        Returns:
            Whether the sweep can go on as if nothing had happened.
        """
        _, before = self._running.pop(job.run_dir)
        conclusion = conclude(job, how, before)
        if conclusion.state == State.ELSEWHERE:  # another sweep was quicker to lock the folder
            self._waiting.append(job)
            return True
        self.conclusions[job.run_dir] = conclusion
        if conclusion.state == State.FINISHED:
            self._durations.append(how.seconds)
        self._report(job, f"{how.seconds:.1f} s")
        return conclusion.state == State.FINISHED

    def tick(self) -> None:
        """Refresh what the user sees."""
        self.display.tick(self.tally())

    # ------------------------------------------------------------------ what the user sees

    def tally(self) -> Tally:
        """Tell where the sweep stands."""
        states = [conclusion.state for conclusion in self.conclusions.values()]
        now = time.monotonic()
        running = [(job.title, now - before.started) for job, before in self._running.values()]
        left = None
        if self._durations:
            mean = sum(self._durations) / len(self._durations)
            work = mean * len(self._waiting) + sum(max(mean - age, 0.0) for _, age in running)
            left = work / min(self.concurrency, max(1, len(self._waiting) + len(running)))
        done = states.count(State.FINISHED)
        return Tally(len(self.jobs), done, len(states) - done, running, left)

    def announce(self) -> None:
        """Say how many jobs are finished, by which code, and how many will run."""
        if before := self.num_finished_before:
            total = _count(len(self.jobs), "job")
            self.display.say(f"{total}, {before} finished before and not run again.")
        if self.stale:
            self.display.say(self._about_stale())
        if self._waiting:
            number = _count(len(self._waiting), "job")
            self.display.say(f"Running {number}, up to {self.concurrency} at a time.")

    def _about_stale(self) -> str:
        files_changed = dict.fromkeys(
            name for one in self.stale.values() for name in one.changed_files
        )
        number = _count(len(self.stale), "job")
        changed = f"{number} finished by other code ({', '.join(files_changed)} changed since): "
        if self.stale.keys() <= self.conclusions.keys():
            return f"{changed}kept as they are (stale=keep); tables of them say so."
        return (
            f"{changed}trained anew, the earlier results are kept in RUN/{EARLIER}. Add stale=keep "
            "to take them as they are."
        )

    def summarise(self) -> None:
        """Say what became of the jobs, and for each that is not finished why and how to go on."""
        states = [
            self.conclusions.get(job.run_dir, Conclusion(State.NOT_STARTED)).state
            for job in self.jobs
        ]
        parts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
        took = clock(time.monotonic() - self._begun)
        print(f"\n{_count(len(self.jobs), 'job')}: {', '.join(parts)}. It took {took}.")
        for job in self.jobs:
            conclusion = self.conclusions.get(job.run_dir)
            if conclusion is not None and conclusion.state != State.FINISHED:
                print(
                    f"\n{conclusion.state}: {job.title}\n"
                    f"  reason  {conclusion.reason}\n"
                    f"  folder  {job.run_dir}\n"
                    f"  retry   {files.retry_command(job.overrides)}"
                )
        if set(states) - {State.FINISHED}:
            print("\nRun the same command again to go on; finished jobs are not repeated.")
        sys.stdout.flush()

    def exit_code(self) -> int:
        """Tell the exit code: 0 if all jobs are finished, else their common one or 1."""
        if len(self.conclusions) < len(self.jobs):
            return RunError.exit_code
        codes = {c.exit_code for c in self.conclusions.values() if c.state != State.FINISHED}
        if not codes:
            return 0
        code = codes.pop()
        return code if not codes and code > 0 else RunError.exit_code

    # ------------------------------------------------------------------ jobs of other processes

    def wait_for_a_free_folder(self, patience_s: float) -> bool:
        """Wait for jobs that another process holds.

        Args:
            patience_s: Seconds to wait at most.

        Returns:
            Whether a job can be taken now. If not, those left are reported as running elsewhere.
        """
        if not self._waiting:
            return False
        until = time.monotonic() + patience_s
        is_told = False
        while None not in (holders := self._holders()):
            if time.monotonic() > until:
                for job, holder in zip(self._waiting, holders, strict=True):
                    self.conclusions[job.run_dir] = elsewhere(holder)
                    self._report(job, "")
                self._waiting.clear()
                return False
            if not is_told:
                is_told = True
                number = _count(len(self._waiting), "job")
                self.display.say(f"Waiting for {number} that another process is running.")
            time.sleep(0.05)
        self._held_until.clear()
        return True

    def _holders(self) -> list[dict[str, Any] | None]:
        return [RunLock(job.run_dir).holder() for job in self._waiting]

    def _is_finished(self, job: Job, *, is_first_look: bool = False) -> bool:
        if self.overwrite:
            return False
        try:
            completion = completion_of(job.run_dir, job.identity, job.code)
        except RunError:  # by hand or by a broken disk: the job itself will report it
            return False
        if completion.kind is CompletionKind.STALE and is_first_look:
            self.stale[job.run_dir] = completion
        is_finished = completion.is_done(job.config.stale)
        if is_finished:
            self.conclusions[job.run_dir] = Conclusion(State.FINISHED)
        return is_finished

    def _report(self, job: Job, detail: str) -> None:
        conclusion = self.conclusions[job.run_dir]
        if conclusion.state == State.FINISHED:
            detail = f"{_score(job)}  {detail}".strip()
        else:
            detail = f"{conclusion.reason}  {detail}".strip()
        self.display.ended(self.tally(), job.title, conclusion.state, detail)


def _without_repetitions(jobs: Sequence[Job]) -> list[Job]:
    kept: dict[Path, Job] = {}
    for job in jobs:
        other = kept.setdefault(job.run_dir, job)
        if other.identity != job.identity:
            raise ConfigError(
                f"{other.title} and {job.title} would share the folder {job.run_dir}. Leave out "
                "run_dir, so that every job gets a folder of its own."
            )
    return list(kept.values())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _score(job: Job) -> str:
    """Name the job's validation accuracy."""
    try:
        result = files.read_json(job.run_dir / files.RESULT) or {}
        return f"val {result['val']['multi']['accuracy']:.3f}"
    except (RunError, KeyError, TypeError, ValueError):  # a protocol without validation scores
        return ""
