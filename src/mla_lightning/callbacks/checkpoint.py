"""When checkpoints are written, which weights are best, and where a run resumes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from mla_lightning.callbacks.checkpoint_io import (
    CheckedCheckpointIO,
    FileState,
    file_state,
    is_valid,
    read_checkpoint,
)
from mla_lightning.callbacks.weight_average import evaluated_state, evaluated_state_of
from mla_lightning.errors import ConfigError, RunError
from mla_lightning.module import MultimodalModule
from mla_lightning.run_folder.columns import validation

#: Key of a checkpoint: state of the run that Lightning does not save.
RUN = "mla_run"
_RESUMABLE = re.compile(r"epoch=(\d+)-batch=(\d+)\.ckpt")


class RunCheckpoint(Checkpoint):
    """Keeps the last checkpoints to resume from, and the best weights to evaluate.

    A checkpoint is written after each epoch, when validation and schedules are done, and optionally
    every few batches, but never on an epoch's last batch: a resume from there would skip the end of
    the epoch. Together with counter-based randomness, a resumed run equals the uninterrupted one
    bit for bit. A checkpoint also holds what belongs to the run besides weights, optimiser and
    schedule: the notes, and whether the method has asked to stop.
    """

    def __init__(self, folder: Path, *, every_n_batches: int | None = None, keep: int = 2) -> None:
        """Store the settings; nothing is written yet.

        Args:
            folder: The run's checkpoint folder.
            every_n_batches: Number of batches between checkpoints within an epoch, None for none.
            keep: Number of checkpoints to resume from that are kept, at least 1.

        Raises:
            ConfigError: If a number is out of range.
        """
        if keep < 1 or (every_n_batches is not None and every_n_batches < 1):
            raise ConfigError(
                "checkpoint.keep and checkpoint.every_n_batches must be at least 1, got "
                f"{keep} and {every_n_batches}"
            )
        self.folder, self.every_n_batches, self.keep = folder, every_n_batches, keep
        #: Metric -> best value, and its epoch from 1.
        self.best: dict[str, tuple[float, int]] = {}
        #: Checkpoints that were valid after the last save, as their files were then.
        self._valid: dict[Path, FileState] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and its epoch, from 1, by metric."""
        return {"best": {metric: list(entry) for metric, entry in self.best.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the best values."""
        best = state_dict["best"].items()
        self.best = {metric: (float(value), int(epoch)) for metric, (value, epoch) in best}

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the notes, and whether training has been asked to stop."""
        assert isinstance(pl_module, MultimodalModule)
        checkpoint[RUN] = {"notes": sorted(pl_module.notes), "should_stop": trainer.should_stop}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Load the notes, and whether to stop; an earlier version did not save them."""
        assert isinstance(pl_module, MultimodalModule)
        state = checkpoint.get(RUN, {})
        pl_module.notes.update(state.get("notes", ()))
        trainer.should_stop = bool(state.get("should_stop", False))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint within an epoch, except on its last batch."""
        if self.every_n_batches and (batch_idx + 1) % self.every_n_batches == 0:
            self.save_within_epoch(trainer, batch_idx)

    def save_within_epoch(self, trainer: Trainer, batch_idx: int) -> bool:
        """Write a checkpoint after a batch.

        Args:
            trainer: The trainer.
            batch_idx: The last trained batch, from 0.

        Returns:
            False on an epoch's last batch: its checkpoint is written at the end of the epoch.
        """
        if batch_idx + 1 >= trainer.num_training_batches:
            return False
        self._save(trainer, trainer.current_epoch, batch_idx + 1)
        return True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the best weights and a checkpoint, after the module's own end of epoch."""
        assert isinstance(pl_module, MultimodalModule)
        epoch, selection = trainer.current_epoch + 1, pl_module.parts.selection
        metrics = dict.fromkeys(pl_module.selections().values()) if pl_module.is_selectable else ()
        for metric in metrics:
            if validation(metric) not in pl_module.epoch_metrics:
                raise RunError(
                    f"Epoch {epoch} was not validated: it has no {validation(metric)}, by which "
                    "the best epoch is selected. on_train_batch_start of a module or callback "
                    "that returns -1 skips the validation of its epoch: let it return None, and "
                    "set trainer.should_stop = True to end training after an epoch."
                )
            score = pl_module.epoch_metrics[validation(metric)]
            if metric not in self.best or selection.is_better(score, self.best[metric][0]):
                self.best[metric] = (score, epoch)
                if not trainer.is_global_zero:
                    continue
                content = {"epoch": epoch, "state_dict": evaluated_state(trainer, pl_module)}
                trainer.strategy.checkpoint_io.save_checkpoint(content, self.best_path(metric))
        self._save(trainer, epoch, 0)

    def best_path(self, metric: str) -> Path:
        """Return the file of the weights that are best by a metric.

        Example:
            >>> RunCheckpoint(Path("checkpoints")).best_path("acc/audio").name
            'best-acc-audio.ckpt'
        """
        return self.folder / f"best-{metric.replace('/', '-')}.ckpt"

    def path_after(self, epoch: int, batch: int = 0) -> Path:
        """Return the checkpoint after a number of epochs, and of batches of the next one.

        Example:
            >>> RunCheckpoint(Path("checkpoints")).path_after(epoch=3).name
            'epoch=0003-batch=000000.ckpt'
        """
        return self.folder / f"epoch={epoch:04d}-batch={batch:06d}.ckpt"

    def _save(self, trainer: Trainer, epoch: int, batch: int) -> None:
        new = self.path_after(epoch, batch)
        trainer.save_checkpoint(new)  # on all ranks, of which the first writes
        if not trainer.is_global_zero:
            return
        # Broken files do not count, so the last valid checkpoint is never removed. The new one's
        # checksum was just computed from the file; others are read again only if they changed.
        valid = [
            path
            for path in resumable(self.folder)
            if path == new or self._valid.get(path) == file_state(path) or is_valid(path)
        ]
        states = {path: file_state(path) for path in valid[: self.keep]}
        self._valid = {path: state for path, state in states.items() if state}
        for old in valid[self.keep :]:
            trainer.strategy.remove_checkpoint(old)


def resumable(folder: Path) -> list[Path]:
    """Return the checkpoints to resume from, newest first, valid or not.

    Args:
        folder: The run's checkpoint folder.

    Returns:
        Their paths.
    """
    return sorted((p for p in folder.glob("*.ckpt") if _RESUMABLE.fullmatch(p.name)), reverse=True)


def newest_valid(folder: Path) -> tuple[Path | None, list[Path]]:
    """Return the newest checkpoint that agrees with its checksum.

    Args:
        folder: The run's checkpoint folder.

    Returns:
        The newest valid checkpoint, None if there is none at all, and the newer broken ones.

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


def choose_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the checkpoint to resume from: one that has all that the run needs to be completed.

    The best weights so far are in files of their own, which the evaluation after training reads.
    If such a file is damaged, it is written again from a checkpoint of its epoch, or the run
    resumes from an earlier checkpoint and trains that epoch again.

    Args:
        folder: The run's checkpoint folder.

    Returns:
        The checkpoint, None to train from the start, and messages on what was damaged.

    Raises:
        RunError: If there are checkpoints but the run cannot be completed from any; the message
            says what is lost.
    """
    newest, broken = newest_valid(folder)
    messages = [f"checkpoint {path.name} is broken" for path in broken]
    lost: dict[str, None] = {}
    for path in resumable(folder):
        if newest is None or not is_valid(path):
            continue
        if not (missing := _missing_weights(path, folder)):
            messages += lost
            if messages:
                messages.append(f"resuming from {path.name}")
            return path, messages
        lost |= dict.fromkeys(missing)
    if newest is None:
        return None, messages
    raise RunError(
        f"{'; '.join(lost)}. No checkpoint in {folder} is early enough to train that epoch again. "
        "Add overwrite=true to train from the start."
    )


def _missing_weights(path: Path, folder: Path) -> list[str]:
    """Return which best weights are lost for a checkpoint; write again those that it holds."""
    content = read_checkpoint(path)
    best = content.get("callbacks", {}).get(RunCheckpoint.__qualname__, {}).get("best", {})
    epoch, batch = (int(number) for number in _RESUMABLE.fullmatch(path.name).groups())  # type: ignore[union-attr]
    missing = []
    for metric, (_, best_epoch) in best.items():
        file = RunCheckpoint(folder).best_path(metric)
        # After a kill the file may already be of a later epoch, which the run will train again.
        if is_valid(file) and read_checkpoint(file)["epoch"] >= best_epoch:
            continue
        if (epoch, batch) == (best_epoch, 0):
            weights = {"epoch": epoch, "state_dict": evaluated_state_of(content)}
            CheckedCheckpointIO().save_checkpoint(weights, file)
        else:
            missing.append(f"{file.name}, the weights of epoch {best_epoch}, is damaged or missing")
    return missing
