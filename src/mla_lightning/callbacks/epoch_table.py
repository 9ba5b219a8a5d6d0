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

from mla_lightning.errors import RunError
from mla_lightning.module import MultimodalModule
from mla_lightning.run_folder import METRICS, read_metrics, write_text
from mla_lightning.run_folder.columns import (
    DIAGNOSTICS_TIME,
    EPOCH,
    EPOCH_TIME,
    STEP,
    STEP_TIME,
)
from mla_lightning.run_folder.parsing import is_measurable

#: Key of a checkpoint: the rows of the epochs so far.
ROWS = "mla_epochs"


class EpochTable(Checkpoint):
    """Adds each epoch's metrics to ``metrics.csv``, and sends the same row to the loggers.

    ``time/epoch_s``: seconds of the epoch, including validation and checkpoint. ``time/step_s``:
    seconds per training batch, including loading. Neither includes the time of diagnostics, which
    is in ``time/diagnostics_s`` if there are any; but counting FLOPs slows down the first step of
    the first epoch.

    It is a ``Checkpoint`` because Lightning calls these after the module's own end of epoch. All
    rows are also in every checkpoint, from which a resumed run writes the file again: it does not
    depend on what happened to the file meanwhile.
    """

    def __init__(self, run_dir: Path) -> None:
        """Store the folder; nothing is written yet.

        Args:
            run_dir: The run folder.
        """
        self.run_dir = run_dir
        self.rows: list[dict[str, float]] = []
        self._spent: dict[str, float] = {}  # of an epoch that an earlier process began
        self._begin(0.0)

    def _begin(self, diagnostics_s: float) -> None:
        """Start the clock of an epoch; diagnostics have taken ``diagnostics_s`` so far."""
        self._started, self._diagnostics_s = time.perf_counter(), diagnostics_s
        self._num_batches, self._step_s = 0, 0.0

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save all rows, and what an unfinished epoch has taken so far."""
        assert isinstance(pl_module, MultimodalModule)
        spent = {
            "all_s": time.perf_counter() - self._started,
            "diagnostics_s": pl_module.diagnostics_s - self._diagnostics_s,
            "num_batches": self._num_batches,
        }
        checkpoint[ROWS] = {"rows": self.rows, "spent": spent}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Load the rows and write the file; an earlier version saved the rows in the file alone."""
        state = checkpoint.get(ROWS)
        if state is None:
            self.rows = read_metrics(self.run_dir)
            return
        self.rows, self._spent = list(state["rows"]), dict(state["spent"])
        self._write(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the rows of finished epochs."""
        assert isinstance(pl_module, MultimodalModule)
        self.rows = [row for row in self.rows if row[EPOCH] <= trainer.current_epoch]
        self.check(trainer.current_epoch)
        self._write(trainer)
        self._begin(pl_module.diagnostics_s)
        self._started -= self._spent.get("all_s", 0.0)
        self._diagnostics_s -= self._spent.get("diagnostics_s", 0.0)
        self._num_batches = int(self._spent.get("num_batches", 0))
        self._spent = {}

    def _write(self, trainer: Trainer) -> None:
        """Write the file, which of several ranks the first one does."""
        if trainer.is_global_zero:
            write_rows(self.run_dir, self.rows)

    def check(self, num_epochs: int) -> None:
        """Check that there is a row for each epoch that was trained.

        Args:
            num_epochs: Number of epochs that were trained.

        Raises:
            RunError: If rows are lost, as when an earlier version's ``metrics.csv`` was removed.
        """
        epochs = {int(row[EPOCH]) for row in self.rows}
        if lost := sorted(set(range(1, num_epochs + 1)) - epochs):
            raise RunError(
                f"{self.run_dir / METRICS} lacks {len(lost)} of {num_epochs} epochs, the first of "
                f"them {lost[0]}, and the checkpoint does not hold them. Put the file back, or add "
                "overwrite=true to train from the start."
            )

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
        """Add the epoch's row, and log it.

        Raises:
            RunError: If a value is so large, or not finite, that no reader of the run accepts it.
        """
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
        for column, value in row.items():
            if not is_measurable(float(value)):
                raise RunError(
                    f"{column} is {float(value):.4g} in epoch {trainer.current_epoch + 1}: the "
                    "training diverged. The last checkpoint before it is kept. Try a smaller "
                    "optimizer.lr, or trainer.clip_norm=1."
                )
        self.rows.append({column: float(value) for column, value in row.items()})
        self._write(trainer)
        for logger in trainer.loggers:
            logger.log_metrics(row, step=trainer.global_step)


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
