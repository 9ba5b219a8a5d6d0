"""The run's metrics.csv: one row per epoch, always written."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from mla_lightning.module import MultimodalModule
from mla_lightning.run_folder import METRICS, read_metrics, write_text


class EpochTable(Checkpoint):
    """Appends each epoch's metrics to ``metrics.csv``.

    It is a ``Checkpoint`` for Lightning's sake: those run after the module's own end of epoch.
    A resumed run drops the rows of epochs that it will train again.
    """

    def __init__(self, run_dir: Path) -> None:
        """Prepare; nothing is written yet.

        Args:
            run_dir: The run folder.
        """
        self.run_dir = run_dir
        self._started = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the rows of epochs that are done."""
        rows = [row for row in read_metrics(self.run_dir) if row["epoch"] <= trainer.current_epoch]
        write_rows(self.run_dir, rows)
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Append the epoch's row."""
        assert isinstance(pl_module, MultimodalModule)
        now = time.perf_counter()
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            **pl_module.epoch_metrics,
            "time/epoch_s": now - self._started,
        }
        self._started = now
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
