"""Display of a running sweep: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from mla_lightning.run_folder import State

if TYPE_CHECKING:
    from rich.console import RenderableType

REFRESH_S = 0.25
#: Largest number of running jobs in the live display.
MAX_SHOWN = 8


@dataclass(frozen=True)
class Progress:
    """Progress of a sweep.

    Attributes:
        num_jobs: Number of jobs.
        num_finished: Number of finished jobs, including those of earlier sweeps.
        num_failed: Number of jobs that ended in another state.
        running: Title and age in seconds of every running job.
        left_s: Estimated seconds to the end; None until a job of this sweep has finished.
        num_queued: Number of jobs that wait in the queue of a scheduler.

    Example:
        >>> Progress(24, 4, 1, running=[("mla seed=1", 2.5)], left_s=83.4).num_waiting
        18
    """

    num_jobs: int
    num_finished: int
    num_failed: int
    running: Sequence[tuple[str, float]]
    left_s: float | None
    num_queued: int = 0

    @property
    def num_waiting(self) -> int:
        """Number of jobs that have not been started, nor given to a scheduler."""
        return self.num_jobs - self.num_ended - len(self.running) - self.num_queued

    @property
    def num_ended(self) -> int:
        """Number of jobs that do not run any more."""
        return self.num_finished + self.num_failed


class PlainDisplay(AbstractContextManager["PlainDisplay"]):
    """One line per event, for log files and pipes.

    Example:
        >>> progress = Progress(24, 4, 1, running=[], left_s=83.4)
        >>> PlainDisplay().show_end(progress, "mla seed=1", "finished", "val 0.612  4.3 s")
        [ 5/24] done      mla seed=1  val 0.612  4.3 s  (1:23 left)
    """

    def show_end(self, progress: Progress, title: str, state: str, detail: str) -> None:
        """Print that a job has ended.

        Args:
            progress: Progress of the sweep.
            title: Title of the job.
            state: State of the job.
            detail: Score and time, or the reason.
        """
        left = ""
        if progress.left_s is not None and progress.num_waiting + progress.num_queued:
            left = f"  ({format_duration(progress.left_s)} left)"
        word = "done" if state == State.FINISHED else state
        self.print_line(f"{_counter(progress)} {word:<9} {title}  {detail}{left}")

    def refresh(self, progress: Progress) -> None:
        """Do nothing: lines are printed for events only."""

    def print_line(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing: printed lines stay."""


class LiveDisplay(PlainDisplay):
    """Events above a progress bar, the counts, the time left and the running jobs.

    It is redrawn by :meth:`refresh` and not by a thread, because a process that forks must have
    only one thread.
    """

    def __init__(self) -> None:
        """Start the display."""
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        self._drawn = 0.0

    def refresh(self, progress: Progress) -> None:
        """Redraw the display, at most a few times a second.

        Args:
            progress: Progress of the sweep.
        """
        if time.monotonic() - self._drawn > REFRESH_S:
            self._drawn = time.monotonic()
            self._live.update(_render(progress), refresh=True)

    def print_line(self, text: str) -> None:
        """Print a line above the display."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the display."""
        self._live.stop()


def choose_display(has_free_terminal: bool) -> PlainDisplay:
    """Return the live display if output is a terminal to which the jobs do not write.

    Args:
        has_free_terminal: Whether the jobs write to their log files only.

    Example:
        >>> type(choose_display(has_free_terminal=False)).__name__
        'PlainDisplay'
    """
    return LiveDisplay() if has_free_terminal and sys.stdout.isatty() else PlainDisplay()


def format_duration(seconds: float) -> str:
    """Format a duration as ``m:ss`` or ``h:mm:ss``.

    Example:
        >>> format_duration(83.4), format_duration(3600)
        ('1:23', '1:00:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _counter(progress: Progress) -> str:
    width = len(str(progress.num_jobs))
    return f"[{progress.num_ended:>{width}}/{progress.num_jobs}]"


def _render(progress: Progress) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    left = "estimating the time"
    if progress.left_s is not None:
        left = f"{format_duration(progress.left_s)} left"
    counts = Text(" · ").join(
        [
            Text(f"{progress.num_finished} done", "green"),
            Text(f"{len(progress.running)} running", "cyan"),
            *([Text(f"{progress.num_queued} queued")] if progress.num_queued else []),
            Text(f"{progress.num_failed} failed", "bold red" if progress.num_failed else "dim"),
            Text(f"{progress.num_waiting} to go"),
            Text(left),
        ]
    )
    grid = Table.grid()
    grid.add_row(ProgressBar(progress.num_jobs, progress.num_ended, width=60))
    grid.add_row(counts)
    for title, age in progress.running[:MAX_SHOWN]:
        grid.add_row(Text(f"  {format_duration(age):>7}  {title}", "dim", no_wrap=True))
    if (more := len(progress.running) - MAX_SHOWN) > 0:
        grid.add_row(Text(f"  and {more} more", "dim"))
    return grid
