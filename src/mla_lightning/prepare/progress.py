"""How far a preparation is, with the time that is left."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich import progress as bars
from rich.console import Console


class Progress:
    """A bar on standard error: items, bad ones, time left; one line where it is no terminal."""

    def __init__(self, name: str, total: int, done: int) -> None:
        """Make the bar.

        Args:
            name: What is prepared.
            total: Items in all.
            done: Items that were finished before.
        """
        self._bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("[red]{task.fields[bad]}"),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
            console=Console(stderr=True),
            speed_estimate_period=120,
        )
        self._bad = 0
        self._task = self._bar.add_task(name, total=total, completed=done, bad="")

    def advance(self, *, is_bad: bool) -> None:
        """Count one more item.

        Args:
            is_bad: Whether it could not be read.
        """
        self._bad += is_bad
        self._bar.update(self._task, advance=1, bad=f"{self._bad} bad" if self._bad else "")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
