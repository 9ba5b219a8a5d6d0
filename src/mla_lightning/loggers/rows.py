"""A logger that sends one row per step to a service, and no step twice after a resume."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from mla_lightning.config.secrets import mask_secrets
from mla_lightning.loggers.base import print_now
from mla_lightning.run_folder.columns import TRAIN_LOSS

#: File in the service's folder with the last step that was sent.
LAST_STEP = ".last_step"


class RowLogger(Logger):
    """Base of loggers that collect the metrics of a step and send them as one row.

    The last step that was sent is kept in a file. A job that resumes from an earlier checkpoint
    computes some steps again with the same results; their rows are left out. An error of the
    service ends logging, not the job.
    """

    #: The service's name in messages.
    service = ""

    def __init__(self, folder: Path) -> None:
        """Read the last step that was sent.

        Args:
            folder: The service's folder in the run folder.
        """
        super().__init__()
        self._last_step_file: Path | None = folder / LAST_STEP
        self._last_step = self._read_last_step()
        self._step = -1
        self._row: dict[str, Any] = {}
        self._is_broken = False

    @abstractmethod
    def send(self, row: Mapping[str, Any], step: int) -> None:
        """Send the metrics of one step."""

    def log_all_steps(self) -> None:
        """Log every step, also those logged before, and do not record the last one."""
        self._last_step_file, self._last_step = None, -1

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the config is sent when the run starts."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add metrics to the row of a step; the row is sent when the next step begins.

        Args:
            metrics: Metric -> value.
            step: The step; None for the current one.
        """
        step = max(self._step, 0) if step is None else max(self._step, step)
        if step <= self._last_step:
            return
        if step > self._step:
            self.send_row()
            self._step = step
        self._row |= metrics

    def send_row(self) -> None:
        """Send the row of the current step, if it has one; an error is printed once."""
        row, self._row = self._row, {}
        if not row or self._is_broken:
            return
        try:
            self.send(row | total_loss(row), self._step)
            if self._last_step_file is not None:
                self._last_step_file.write_text(str(self._step), encoding="ascii")
        except Exception as error:  # such as a full disk: the metrics are in metrics.csv
            self._is_broken = True
            message = f"{self.service} accepts no more metrics ({mask_secrets(str(error))});"
            print_now(f"{message} they are still written to metrics.csv.")

    def _read_last_step(self) -> int:
        if self._last_step_file is None:
            return -1
        try:
            return int(self._last_step_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return -1


def total_loss(row: Mapping[str, float]) -> dict[str, float]:
    """Return the sum of the training losses of a row, which the steps minimise.

    Args:
        row: Metric -> value.

    Returns:
        ``train/loss`` -> the sum; empty if the row has no training loss.

    Example:
        >>> total_loss({"train/loss/image": 0.5, "train/loss/text": 0.25, "val/acc": 0.5})
        {'train/loss': 0.75}
    """
    losses = [value for key, value in row.items() if key.startswith(TRAIN_LOSS)]
    return {TRAIN_LOSS.rstrip("/"): sum(losses)} if losses else {}
