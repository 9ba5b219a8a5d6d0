"""A first stage that several runs have in common, trained once."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.callbacks.checkpoint_io import CheckedCheckpointIO, is_valid, read_checkpoint
from mla_lightning.callbacks.epoch_table import ROWS
from mla_lightning.errors import RunError
from mla_lightning.module import MultimodalModule
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
from mla_lightning.run_folder.lock import RunLock

#: Columns of the table of epochs that depend on the stage alone, by the start of their names;
#: others depend on what is hidden.
STAGE_COLUMNS = (
    *(EPOCH, STEP, LR, TRAIN_LOSS, EPOCH_TIME, STEP_TIME, DIAGNOSTICS_TIME, STEP_FLOPS),
)


class SharedStage(Callback):
    """Stores a first stage for other runs, and starts a run after one that is stored.

    Training on complete samples is the same whatever a run hides later, and the training of
    unimodal teachers whatever learns from them. The first run that ends
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

    def start(self) -> Path | None:
        """Return the checkpoint from which a new run starts after the stage.

        Returns:
            The checkpoint, which also holds the stage's rows; None if the stage is not stored yet.
        """
        return self.file if is_valid(self.file) else None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the stage if it has just ended."""
        if not trainer.is_global_zero:
            return
        end = self.checkpoint.path_after(self.num_epochs)
        if trainer.current_epoch != self.num_epochs or is_valid(self.file) or not is_valid(end):
            return
        assert isinstance(pl_module, MultimodalModule)
        if pl_module.notes:  # such as that it resumed from checkpoints of other code
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with RunLock(self.folder):
                if not is_valid(self.file):
                    self._store(end, pl_module)
        except RunError:  # another run is storing it
            return

    def _store(self, end: Path, module: MultimodalModule) -> None:
        """Store a checkpoint of the stage's end, without columns that depend on what is hidden."""
        content = module.stage_content(read_checkpoint(end))
        if content is None:
            return
        rows = content[ROWS]["rows"][: self.num_epochs]
        stage_rows = [{k: v for k, v in r.items() if k.startswith(STAGE_COLUMNS)} for r in rows]
        content[ROWS] = {"rows": stage_rows, "spent": {}}
        CheckedCheckpointIO().save_checkpoint(content, self.file)


def shared_stage(
    config: RunConfig, stage_id: str, module: MultimodalModule, checkpoint: RunCheckpoint
) -> SharedStage | None:
    """Build the callback for a run's shared first stage.

    Args:
        config: The resolved config.
        stage_id: Name with a hash of everything that determines the stage: config, data and code.
        module: The run's module.
        checkpoint: The run's checkpoints.

    Returns:
        The callback; None if the method has no such stage, or if the schedule depends on
        validation, and so on what is hidden.
    """
    schedule = str((config.scheduler or {}).get("_target_"))
    num_epochs = module.shared_epochs_of(config.trainer.num_epochs)
    if not num_epochs or schedule.endswith("ReduceLROnPlateau"):
        return None
    counted = "" if config.diagnostics == "off" else "-counted"  # with the FLOPs of its steps
    folder = Path(config.paths.output_dir) / "stages" / f"{stage_id}{counted}"
    return SharedStage(folder, num_epochs, checkpoint)
