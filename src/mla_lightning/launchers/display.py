"""What a sweep shows while it runs: a live display on a terminal, plain lines everywhere else."""

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
SHOWN_JOBS = 8


@dataclass(frozen=True)
class Tally:
    """Where a sweep stands.

    Attributes:
        total: Number of jobs.
        done: Number of finished jobs, those of earlier sweeps included.
        not_done: Number of jobs that ended otherwise.
        running: Title and age in seconds of every running job.
        left_s: Estimated seconds to the end, None before the first job has finished.
    """

    total: int
    done: int
    not_done: int
    running: Sequence[tuple[str, float]]
    left_s: float | None

    @property
    def to_go(self) -> int:
        """Number of jobs that have not been started."""
        return self.total - self.done - self.not_done - len(self.running)


class PlainDisplay(AbstractContextManager["PlainDisplay"]):
    """One line per event, for log files and pipes."""

    def ended(self, tally: Tally, title: str, state: str, detail: str) -> None:
        """Report that a job ended.

        Args:
            tally: Where the sweep stands now.
            title: The job.
            state: Its state.
            detail: Score and time, or the reason.
        """
        left = "" if tally.left_s is None or not tally.to_go else f"  ({clock(tally.left_s)} left)"
        word = "done" if state == State.FINISHED else state
        self.say(f"{_counter(tally)} {word:<9} {title}  {detail}{left}")

    def tick(self, tally: Tally) -> None:
        """Do nothing: time alone is no event."""

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing: there is nothing to take away."""


class LiveDisplay(PlainDisplay):
    """Events scroll by above a bar, the counts, the time left and the running jobs.

    It is redrawn by :meth:`tick` and not by a thread of its own: a process that forks must have
    one thread only.
    """

    def __init__(self) -> None:
        """Begin to display."""
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        self._drawn = 0.0

    def tick(self, tally: Tally) -> None:
        """Redraw, a few times a second.

        Args:
            tally: Where the sweep stands now.
        """
        if time.monotonic() - self._drawn > REFRESH_S:
            self._drawn = time.monotonic()
            self._live.update(_picture(tally), refresh=True)

    def say(self, text: str) -> None:
        """Print a line above the display."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the display away."""
        self._live.stop()


def choose_display(has_free_terminal: bool) -> PlainDisplay:
    """Choose the live display where a terminal shows it and nothing else writes there.

    Args:
        has_free_terminal: Whether the jobs leave the terminal alone.
    """
    return LiveDisplay() if has_free_terminal and sys.stdout.isatty() else PlainDisplay()


def clock(seconds: float) -> str:
    """Write a duration as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _counter(tally: Tally) -> str:
    width = len(str(tally.total))
    return f"[{tally.done + tally.not_done:>{width}}/{tally.total}]"


def _picture(tally: Tally) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    left = "estimating the time" if tally.left_s is None else f"{clock(tally.left_s)} left"
    counts = Text(" · ").join(
        [
            Text(f"{tally.done} done", "green"),
            Text(f"{len(tally.running)} running", "cyan"),
            Text(f"{tally.not_done} failed", "bold red" if tally.not_done else "dim"),
            Text(f"{tally.to_go} to go"),
            Text(left),
        ]
    )
    picture = Table.grid()
    picture.add_row(ProgressBar(tally.total, tally.done + tally.not_done, width=60))
    picture.add_row(counts)
    for title, age in tally.running[:SHOWN_JOBS]:
        picture.add_row(Text(f"  {clock(age):>7}  {title}", "dim", no_wrap=True))
    if (more := len(tally.running) - SHOWN_JOBS) > 0:
        picture.add_row(Text(f"  and {more} more", "dim"))
    return picture
