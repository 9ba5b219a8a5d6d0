"""The run's metrics.csv: one row per epoch, also sent to the loggers."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from mla_lightning.module import MultimodalModule
from mla_lightning.run_folder import METRICS, read_metrics, write_text
from mla_lightning.run_folder.columns import (
    DIAGNOSTICS_TIME,
    EPOCH,
    EPOCH_TIME,
    STEP,
    STEP_TIME,
)


class EpochTable(Checkpoint):
    """Appends each epoch's metrics to ``metrics.csv``, and sends the same row to the loggers.

    ``time/epoch_s``: seconds of the epoch, including validation and checkpoint. ``time/step_s``:
    seconds per training batch, including loading. Neither includes the time of diagnostics, which
    is in ``time/diagnostics_s`` if there are any; but counting FLOPs slows down the first step of
    the first epoch.

    It is a ``Checkpoint`` because Lightning calls these after the module's own end of epoch. A
    resumed run drops the rows of epochs that it will train again.
    """

    def __init__(self, run_dir: Path) -> None:
        """Store the folder; nothing is written yet.

        Args:
            run_dir: The run folder.
        """
        self.run_dir = run_dir
        self._begin(0.0)

    def _begin(self, diagnostics_s: float) -> None:
        """Start the clock of an epoch; diagnostics have taken ``diagnostics_s`` so far."""
        self._started, self._diagnostics_s = time.perf_counter(), diagnostics_s
        self._num_batches, self._step_s = 0, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the rows of finished epochs."""
        rows = [row for row in read_metrics(self.run_dir) if row[EPOCH] <= trainer.current_epoch]
        write_rows(self.run_dir, rows)
        assert isinstance(pl_module, MultimodalModule)
        self._begin(pl_module.diagnostics_s)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batches of the epoch that this process trained."""
        self._num_batches += 1

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the time per step, at the end of the epoch's steps."""
        assert isinstance(pl_module, MultimodalModule)
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        diagnostics_s = pl_module.diagnostics_s - self._diagnostics_s
        spent_s = time.perf_counter() - self._started - diagnostics_s
        self._step_s = spent_s / max(1, self._num_batches)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Append the epoch's row, and log it."""
        assert isinstance(pl_module, MultimodalModule)
        diagnostics_s = pl_module.diagnostics_s - self._diagnostics_s
        row = {
            EPOCH: trainer.current_epoch + 1,
            STEP: trainer.global_step,
            **pl_module.epoch_metrics,
            EPOCH_TIME: time.perf_counter() - self._started - diagnostics_s,
            STEP_TIME: self._step_s,
        }
        if diagnostics_s:
            row[DIAGNOSTICS_TIME] = diagnostics_s
        self._begin(pl_module.diagnostics_s)
        self._append(row)
        for logger in trainer.loggers:
            logger.log_metrics(row, step=trainer.global_step)

    def _append(self, row: dict[str, float]) -> None:
        path = self.run_dir / METRICS
        with path.open("r+", encoding="utf-8") as file:
            columns = file.readline().rstrip("\n").split(",")
            if columns == list(row):
                file.seek(0, io.SEEK_END)
                file.write(_csv_text([row], header=False))
                return
        # The first epoch, or a stage with other losses: the table needs the columns of all rows.
        write_rows(self.run_dir, [*read_metrics(self.run_dir), row])


def write_rows(run_dir: Path, rows: list[dict[str, float]]) -> None:
    """Rewrite ``metrics.csv`` with the columns of all rows.

    Args:
        run_dir: The run folder.
        rows: Column -> value, for each epoch.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_rows(Path(folder), [{"epoch": 1, "lr": 0.1}, {"epoch": 2, "val/acc": 0.5}])
        ...     print((Path(folder) / "metrics.csv").read_text())
        epoch,lr,val/acc
        1,0.1,
        2,,0.5
    """
    write_text(run_dir / METRICS, _csv_text(rows, header=True) if rows else "")


def _csv_text(rows: list[dict[str, float]], *, header: bool) -> str:
    text = io.StringIO()
    columns = dict.fromkeys(key for row in rows for key in row)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({k: int(v) if k in (EPOCH, STEP) else v for k, v in r.items()} for r in rows)
    return text.getvalue()
