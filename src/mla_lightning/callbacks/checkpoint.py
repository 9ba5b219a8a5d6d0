"""When to checkpoint, which weights are best, and where to resume."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from mla_lightning.callbacks.checkpoint_io import is_valid
from mla_lightning.errors import ConfigError, RunError
from mla_lightning.module import MultimodalModule

_RESUMABLE = re.compile(r"epoch=(\d+)-batch=(\d+)\.ckpt")


class RunCheckpoint(Checkpoint):
    """Keeps the last checkpoints to resume from and the best weights to evaluate.

    A file is written after each epoch, once validation and schedules are done, and if wished every
    so many batches, but never on an epoch's last batch: resuming from there would skip the end of
    the epoch. Together with counter-based randomness this makes a resumed run equal the
    uninterrupted one bit for bit.
    """

    def __init__(self, folder: Path, *, every_n_batches: int | None = None, keep: int = 2) -> None:
        """Prepare; nothing is written yet.

        Args:
            folder: The run's checkpoint folder.
            every_n_batches: Also checkpoint within epochs, every so many batches.
            keep: How many checkpoints to resume from are kept, at least 1.

        Raises:
            ConfigError: If a number is out of range.
        """
        if keep < 1 or (every_n_batches is not None and every_n_batches < 1):
            raise ConfigError(
                "checkpoint.keep and checkpoint.every_n_batches must be at least 1, got "
                f"{keep} and {every_n_batches}"
            )
        self.folder, self.every_n_batches, self.keep = folder, every_n_batches, keep
        self.best: dict[str, tuple[float, int]] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the best score and epoch (1-based) by metric."""
        return {"best": {metric: list(entry) for metric, entry in self.best.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best scores back."""
        self.best = {k: (float(score), int(at)) for k, (score, at) in state_dict["best"].items()}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Checkpoint within an epoch, except on its last batch."""
        if self.every_n_batches and (batch_idx + 1) % self.every_n_batches == 0:
            self.save_within_epoch(trainer, batch_idx)

    def save_within_epoch(self, trainer: Trainer, batch_idx: int) -> bool:
        """Checkpoint after a batch.

        Args:
            trainer: The trainer.
            batch_idx: The batch just done, from 0.

        Returns:
            False on an epoch's last batch, where the epoch's end must be waited for.
        """
        if batch_idx + 1 >= trainer.num_training_batches:
            return False
        self._save(trainer, trainer.current_epoch, batch_idx + 1)
        return True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the best weights and checkpoint; the module's own hook has run before."""
        assert isinstance(pl_module, MultimodalModule)
        epoch = trainer.current_epoch + 1
        metrics = dict.fromkeys(pl_module.selections().values()) if pl_module.is_selectable else ()
        for metric in metrics:
            score = pl_module.epoch_metrics[f"val/{metric}"]
            if metric not in self.best or score > self.best[metric][0]:  # the first of equals
                self.best[metric] = (score, epoch)
                content = {"epoch": epoch, "state_dict": pl_module.state_dict()}
                trainer.strategy.checkpoint_io.save_checkpoint(content, self.best_path(metric))
        self._save(trainer, epoch, 0)

    def best_path(self, metric: str) -> Path:
        """Name the file of the weights that are best by a metric."""
        return self.folder / f"best-{metric.replace('/', '-')}.ckpt"

    def path_after(self, epoch: int, batch: int = 0) -> Path:
        """Name the checkpoint after so many epochs, and batches of the next."""
        return self.folder / f"epoch={epoch:04d}-batch={batch:06d}.ckpt"

    def _save(self, trainer: Trainer, epoch: int, batch: int) -> None:
        trainer.save_checkpoint(self.path_after(epoch, batch))
        # Only valid files count, so rotation can never remove the last one that can be resumed.
        for old in [p for p in resumable(self.folder) if is_valid(p)][self.keep :]:
            trainer.strategy.remove_checkpoint(old)


def resumable(folder: Path) -> list[Path]:
    """List the checkpoints to resume from, newest first, valid or not.

    Args:
        folder: The run's checkpoint folder.

    Returns:
        Their paths.
    """
    return sorted((p for p in folder.glob("*.ckpt") if _RESUMABLE.fullmatch(p.name)), reverse=True)


def newest_valid(folder: Path) -> tuple[Path | None, list[Path]]:
    """Find where to resume.

    Args:
        folder: The run's checkpoint folder.

    Returns:
        The newest valid checkpoint, None where there is none at all, and the newer broken ones.

    Raises:
        RunError: If there are checkpoints but every one is broken.
    """
    broken: list[Path] = []
    for path in resumable(folder):
        if is_valid(path):
            return path, broken
        broken.append(path)
    if broken:
        raise RunError(
            f"Every checkpoint in {folder} is broken ({', '.join(p.name for p in broken)}). Remove "
            "the folder, or add overwrite=true, to train from the start."
        )
    return None, []
