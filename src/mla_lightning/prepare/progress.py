"""Progress bar of a preparation, with the remaining time."""

from __future__ import annotations

from rich import progress as bars
from rich.console import Console


class ItemProgress(bars.Progress):
    """Bar on standard error: items, bad items, remaining time; a single line if no terminal."""

    def __init__(self, name: str, total: int, num_finished: int) -> None:
        """Create the bar; it is shown within a ``with`` block.

        Args:
            name: Name of the data set.
            total: Number of all items.
            num_finished: Number of items that were finished before.
        """
        super().__init__(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("[red]{task.fields[bad]}"),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
            console=Console(stderr=True),
            speed_estimate_period=120,
        )
        self._num_bad = 0
        self._items = self.add_task(name, total=total, completed=num_finished, bad="")

    def count_item(self, *, is_bad: bool) -> None:
        """Count one more item.

        Args:
            is_bad: Whether it could not be read.
        """
        self._num_bad += is_bad
        bad = f"{self._num_bad} bad" if self._num_bad else ""
        self.update(self._items, advance=1, bad=bad)
