"""The run's metrics.csv: one row per epoch, always written, and handed to the loggers."""

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


class EpochTable(Checkpoint):
    """Appends each epoch's metrics to ``metrics.csv``, and hands the same row to the loggers.

    ``time/epoch_s``: seconds of the epoch, validation and checkpoint included, and
    ``time/step_s``: seconds per training batch, loading included. Neither holds what diagnostics
    take, which is ``time/diagnostics_s`` where there are any; counting FLOPs, though, slows the
    first step of the first epoch down.

    It is a ``Checkpoint`` for Lightning's sake: those run after the module's own end of epoch.
    A resumed run drops the rows of epochs that it will train again.
    """

    def __init__(self, run_dir: Path) -> None:
        """Prepare; nothing is written yet.

        Args:
            run_dir: The run folder.
        """
        self.run_dir = run_dir
        self._begin(0.0)

    def _begin(self, diagnostics_s: float) -> None:
        """Begin an epoch, ``diagnostics_s`` having gone aside so far."""
        self._started, self._diagnostics_s = time.perf_counter(), diagnostics_s
        self._num_batches, self._step_s = 0, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the rows of epochs that are done."""
        rows = [row for row in read_metrics(self.run_dir) if row["epoch"] <= trainer.current_epoch]
        write_rows(self.run_dir, rows)
        assert isinstance(pl_module, MultimodalModule)
        self._begin(pl_module.diagnostics_s)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batches of the epoch that were trained here."""
        self._num_batches += 1

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the time of a step, now that the epoch's steps are done."""
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
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            **pl_module.epoch_metrics,
            "time/epoch_s": time.perf_counter() - self._started - diagnostics_s,
            "time/step_s": self._step_s,
        }
        if diagnostics_s:
            row["time/diagnostics_s"] = diagnostics_s
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
                file.write(_table([row], header=False))
                return
        # The first epoch, or a stage with other losses: the table gets the columns of all rows.
        write_rows(self.run_dir, [*read_metrics(self.run_dir), row])


def write_rows(run_dir: Path, rows: list[dict[str, float]]) -> None:
    """Write the whole table of epochs, with the columns of all rows.

    Args:
        run_dir: The run folder.
        rows: One mapping per epoch.
    """
    write_text(run_dir / METRICS, _table(rows, header=True) if rows else "")


def _table(rows: list[dict[str, float]], *, header: bool) -> str:
    text = io.StringIO()
    columns = dict.fromkeys(key for row in rows for key in row)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(
        {k: int(v) if k in ("epoch", "step") else v for k, v in r.items()} for r in rows
    )
    return text.getvalue()
