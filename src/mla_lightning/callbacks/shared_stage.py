"""A first stage that several runs have in common, trained once."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.callbacks.checkpoint_io import checksum_of, is_valid
from mla_lightning.callbacks.epoch_table import write_rows
from mla_lightning.module import MultimodalModule
from mla_lightning.run_folder import read_metrics
from mla_lightning.run_folder.columns import (
    DIAGNOSTICS_TIME,
    EPOCH,
    EPOCH_TIME,
    LR,
    STEP,
    STEP_FLOPS,
    STEP_TIME,
    TRAIN_LOSS,
)
from mla_lightning.run_folder.config import RunConfig

#: Columns of the table of epochs that depend on the stage alone, by the start of their names;
#: others depend on what is hidden.
STAGE_COLUMNS = (
    *(EPOCH, STEP, LR, TRAIN_LOSS, EPOCH_TIME, STEP_TIME, DIAGNOSTICS_TIME, STEP_FLOPS),
)


class SharedStage(Callback):
    """Stores a first stage for other runs, and starts a run after one that is stored.

    Training on complete samples is the same whatever a run hides later. The first run that ends
    such a stage stores its checkpoint and its rows of the table of epochs. Another run resumes from
    there as if it had been interrupted at that epoch's end, so its numbers equal bit for bit those
    of a run that trains everything itself, and its times include the stage.
    """

    def __init__(self, folder: Path, num_epochs: int, checkpoint: RunCheckpoint) -> None:
        """Store the settings; nothing is read yet.

        Args:
            folder: Folder of the stage; its name depends on everything that determines the stage.
            num_epochs: Number of epochs of the stage.
            checkpoint: The run's checkpoints.
        """
        self.folder, self.num_epochs, self.checkpoint = folder, num_epochs, checkpoint
        self.file = folder / "stage.ckpt"

    def start(self, run_dir: Path) -> Path | None:
        """Start a new run after the stage.

        Args:
            run_dir: The run folder, which gets the stage's rows.

        Returns:
            The checkpoint to resume from; None if the stage is not stored yet.
        """
        if not is_valid(self.file):
            return None
        write_rows(run_dir, read_metrics(self.folder))
        return self.file

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the stage if it has just ended."""
        end = self.checkpoint.path_after(self.num_epochs)
        if trainer.current_epoch != self.num_epochs or self.folder.exists() or not is_valid(end):
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".stage-", dir=self.folder.parent))
        shutil.copyfile(end, unfinished / self.file.name)
        shutil.copyfile(checksum_of(end), checksum_of(unfinished / self.file.name))
        rows = read_metrics(self.checkpoint.folder.parent)[: self.num_epochs]
        write_rows(
            unfinished,
            [{k: v for k, v in row.items() if k.startswith(STAGE_COLUMNS)} for row in rows],
        )
        try:
            unfinished.rename(self.folder)
        except OSError:  # another run was faster
            shutil.rmtree(unfinished)


def shared_stage(
    config: RunConfig, stage_id: str, module: MultimodalModule, checkpoint: RunCheckpoint
) -> SharedStage | None:
    """Build the callback for a run's shared first stage.

    Args:
        config: The resolved config.
        stage_id: Hash of everything that determines the stage: config, data and code.
        module: The run's module.
        checkpoint: The run's checkpoints.

    Returns:
        The callback; None if the method has no such stage, or if the schedule depends on
        validation, and so on what is hidden.
    """
    schedule = str((config.scheduler or {}).get("_target_"))
    if not module.shared_epochs or schedule.endswith("ReduceLROnPlateau"):
        return None
    counted = "" if config.diagnostics == "off" else "-counted"  # with the FLOPs of its steps
    name = f"{config.choices['method']}-seed{config.seed}-{stage_id}{counted}"
    folder = Path(config.paths.output_dir) / "stages" / name
    return SharedStage(folder, module.shared_epochs, checkpoint)
