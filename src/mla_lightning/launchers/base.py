"""What a launcher and a sweep know of each other."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mla_lightning.run_folder import State

if TYPE_CHECKING:
    from mla_lightning.config import Job

#: Runs one job and returns its exit code; see ``mla_lightning.run.train.run_job``. The job's type
#: is left open because the config's checks read launchers' annotations while a job is being made.
JobFunction = Callable[[Any], int]


@dataclass(frozen=True)
class Ended:
    """How a job's process ended, as its launcher saw it.

    Attributes:
        exit_code: What it returned; negative for the number of the signal that killed it.
        seconds: Wall time from start to end.
        pid: The process that it ran in.
        reason: Why its launcher ended it or could not start it; empty if it ended by itself.
        state: What the job is now, unless it has recorded that itself: failed, or interrupted or
            preempted if the whole sweep was told to stop.
    """

    exit_code: int
    seconds: float
    pid: int
    reason: str = ""
    state: State = State.FAILED

    def describe(self) -> str:
        """Say in words how the process ended."""
        if self.reason:
            return self.reason
        if self.exit_code >= 0:
            return f"ended with exit code {self.exit_code}"
        try:
            name = signal.Signals(-self.exit_code).name
        except ValueError:  # real-time signals have no names
            name = f"signal {-self.exit_code}"
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


class Board(Protocol):
    """The sweep as a launcher sees it: hands out jobs and takes note of how they end."""

    def waiting(self) -> Sequence[Job]:
        """Name the jobs that have not been handed out yet."""

    def take(self) -> Job | None:
        """Hand out the next job whose folder is free, None if there is none just now."""

    def ended(self, job: Job, how: Ended) -> bool:
        """Take note of how a job ended; returns False if it did not do what it was to."""

    def tick(self) -> None:
        """Refresh what the user sees; called many times a second while jobs run."""


class Launcher(Protocol):
    """Runs a board's jobs."""

    #: The most jobs at a time, known once :meth:`check` has returned.
    concurrency: int
    #: Jobs write to their own log files, so the terminal is free for a live display.
    has_free_terminal: bool

    def check(self, jobs: Sequence[Job]) -> None:
        """Find out whether this machine can run the jobs as asked; raises ConfigError if not."""

    def launch(self, board: Board) -> int:
        """Run all jobs that can be taken; returns 0, or another code if stopped before the end."""
