"""Time of every operation in some batches, for those who look for what is slow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mla_lightning.errors import RunError
from mla_lightning.run_folder.schema import Count

#: Folder in the run folder.
FOLDER = "profile"


class Profile(Callback):
    """Profiles some batches of the first epoch, and writes ``profile/`` in the run folder.

    ``operations.txt`` has the operations that take most time. ``trace.json`` has every call on a
    time axis; open it in a browser at https://ui.perfetto.dev.

    Example:
        >>> profile = Profile(num_batches=3)
        >>> profile.num_warmup, profile.num_batches
        (2, 3)
    """

    def __init__(self, num_batches: Count = 5, num_warmup: int = 2, num_rows: Count = 30) -> None:
        """Store the settings.

        Args:
            num_batches: Number of batches that are profiled, at least 1.
            num_warmup: Number of batches before them, which are slower than others.
            num_rows: Number of operations in the table.

        Raises:
            ValueError: If a number is out of range.
        """
        if num_batches < 1 or num_warmup < 0 or num_rows < 1:
            raise ValueError(
                "num_batches and num_rows must be at least 1, and num_warmup at least 0, got "
                f"{num_batches}, {num_rows} and {num_warmup}"
            )
        self.num_batches, self.num_warmup, self.num_rows = num_batches, num_warmup, num_rows
        self._profiler: torch.profiler.profile | None = None
        self._is_written = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that the first epoch has enough batches.

        Raises:
            RunError: If it has not.
        """
        needed = self.num_warmup + self.num_batches
        if trainer.num_training_batches < needed:
            raise RunError(
                f"callbacks=profiler needs {needed} batches and an epoch has "
                f"{trainer.num_training_batches}. Write a smaller callbacks.profiler.num_batches, "
                "or a smaller data.batch_size."
            )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin after the first batches of this process."""
        if self._is_written or self._profiler is not None or batch_idx != self.num_warmup:
            return
        activities = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        self._profiler = torch.profiler.profile(activities=activities)
        self._profiler.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End, and write the files."""
        if self._profiler is None or batch_idx + 1 < self.num_warmup + self.num_batches:
            return
        self._profiler.stop()
        if trainer.is_global_zero:
            self._write(Path(trainer.default_root_dir) / FOLDER, self._profiler)
        self._profiler, self._is_written = None, True

    def _write(self, folder: Path, profiler: torch.profiler.profile) -> None:
        folder.mkdir(exist_ok=True)
        averages = profiler.key_averages()
        on_gpu = torch.cuda.is_available()
        sort_by = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
        table = averages.table(sort_by=sort_by, row_limit=self.num_rows)
        (folder / "operations.txt").write_text(table + "\n", encoding="utf-8")
        profiler.export_chrome_trace(str(folder / "trace.json"))
        print(f"Profile of {self.num_batches} batches: {folder / 'operations.txt'}", flush=True)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """End the profiler, which is one per process."""
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler = None
