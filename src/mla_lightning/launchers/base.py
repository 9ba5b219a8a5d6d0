"""Interfaces between a sweep and its launcher."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mla_lightning.errors import ConfigError
from mla_lightning.run_folder import State

if TYPE_CHECKING:
    from mla_lightning.config import Job

#: A function that runs one job and returns its exit code; see ``mla_lightning.run.train.run_job``.
#: The type of a job is ``Any`` because config checks resolve the annotations of launchers before
#: :class:`Job` can be imported.
JobFunction = Callable[[Any], int]


@dataclass(frozen=True)
class JobExit:
    """How the process of a job ended, as its launcher observed it.

    Attributes:
        exit_code: Exit code of the process; -n if signal n killed it.
        seconds: Wall time from start to end.
        pid: The process.
        reason: Why the launcher stopped it or could not start it; empty if it ended without that.
        state: State of the job unless the job has recorded another one: failed, or interrupted or
            preempted if the whole sweep was stopped.
        yields: Whether a state that the job has recorded itself counts more than the reason.

    Example:
        >>> JobExit(exit_code=-9, seconds=4.2, pid=1234).describe()
        'killed by SIGKILL (out of memory?)'
        >>> JobExit(143, 60.0, 1234, reason="timed out after 60 s").describe()
        'timed out after 60 s'
    """

    exit_code: int
    seconds: float
    pid: int
    reason: str = ""
    state: State = State.FAILED
    yields: bool = False

    def describe(self) -> str:
        """Return a text that says how the process ended."""
        if self.reason:
            return self.reason
        if self.exit_code >= 0:
            return f"ended with exit code {self.exit_code}"
        try:
            name = signal.Signals(-self.exit_code).name
        except ValueError:  # real-time signals have no names
            name = f"signal {-self.exit_code}"
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


class JobQueue(Protocol):
    """The jobs of a sweep, from which a launcher takes jobs and to which it reports their exits."""

    def waiting(self) -> Sequence[Job]:
        """Return the jobs that have not been taken."""

    def take(self) -> Job | None:
        """Take the next job whose folder is not in use; None if there is none at the moment."""

    def record_exit(self, job: Job, job_exit: JobExit) -> bool:
        """Record how a job ended; return False if it failed or was stopped."""

    def give_back(self, job: Job) -> None:
        """Give back a job that was taken and will not be started, since the sweep was stopped."""

    def refresh(self) -> None:
        """Refresh the display; called many times a second while jobs run."""

    # Of launchers that hand their jobs to a scheduler:

    def claim(self, job: Job) -> bool:
        """Take a certain job of those that wait; return False if it need not or cannot run."""

    def adopt(self, job: Job) -> None:
        """Take a job that waits here and that the scheduler has from an earlier sweep."""

    def set_queued(self, job: Job, is_queued: bool) -> None:
        """Record whether a job that was taken still waits in the scheduler's queue."""

    def leave(self, jobs: Sequence[Job], note: str) -> None:
        """Record that jobs which were taken go on without this sweep; the summary has the note."""

    def print_line(self, text: str) -> None:
        """Print a line about something that happened."""


class Launcher(Protocol):
    """Interface of an object that runs the jobs of a queue.

    A launcher whose jobs run on other machines has ``runs_here = False``, so that this machine is
    not checked for them, and may have a method ``describe(jobs)``, whose text ``--dry-run`` prints.
    One with ``is_for_several = True`` is not used for a single job without ``-m``, which then runs
    in the process of the command.
    """

    #: Largest number of jobs at a time, set by :meth:`check`.
    concurrency: int
    #: Whether jobs write to their log files only, so that a live display can use the terminal.
    has_free_terminal: bool

    def check(self, jobs: Sequence[Job]) -> None:
        """Check that this machine can run the jobs with these settings, or raise ConfigError."""

    def launch(self, queue: JobQueue) -> int:
        """Run all jobs that can be taken; return 0, or another exit code if it was stopped."""


def unique_jobs(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs without duplicates.

    Args:
        jobs: The jobs.

    Raises:
        ConfigError: If different jobs share a folder.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> words = ["data=synthetic", "method=mla"]
        >>> len(unique_jobs(compose_jobs(words) * 2))
        1
        >>> seeds = (compose_jobs([*words, "run_dir=runs/a", f"seed={seed}"])[0] for seed in (0, 1))
        >>> unique_jobs([*seeds])
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: ... would share the folder runs/a. Leave out run_dir, ...
    """
    by_folder: dict[Path, Job] = {}
    for job in jobs:
        other = by_folder.setdefault(job.run_dir, job)
        if other.identity != job.identity:
            raise ConfigError(
                f"{other.title} and {job.title} would share the folder {job.run_dir}. Leave out "
                "run_dir, so that every job gets its own folder."
            )
    return list(by_folder.values())
