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
from mla_lightning.run_folder.config import RunConfig

#: Columns of the epoch table that a stage determines; others depend on what is hidden.
STAGE_COLUMNS = ("epoch", "step", "lr", "train/", "time/", "cost/")


class SharedStage(Callback):
    """Keeps a first stage for other runs, and lets a run start after it.

    What is trained on complete samples is the same whatever a run hides later. The first run that
    ends such a stage leaves its checkpoint and its rows of the epoch table; another one goes on
    from there as if it had been interrupted at that epoch's end, so its numbers are those of a run
    that trains everything itself, bit for bit, and its times count the stage.
    """

    def __init__(self, folder: Path, num_epochs: int, checkpoint: RunCheckpoint) -> None:
        """Prepare; nothing is read yet.

        Args:
            folder: Where the stage is kept; named by all that determines it.
            num_epochs: Its length.
            checkpoint: Knows the run's own checkpoints.
        """
        self.folder, self.num_epochs, self.checkpoint = folder, num_epochs, checkpoint
        self.file = folder / "stage.ckpt"

    def start(self, run_dir: Path) -> Path | None:
        """Put a new run after the stage.

        Args:
            run_dir: The run folder, which gets the stage's rows.

        Returns:
            The checkpoint to go on from; None if the stage is not there yet.
        """
        if not is_valid(self.file):
            return None
        write_rows(run_dir, read_metrics(self.folder))
        return self.file

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the stage when it has just ended."""
        own = self.checkpoint.path_after(self.num_epochs)
        if trainer.current_epoch != self.num_epochs or self.folder.exists() or not is_valid(own):
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".stage-", dir=self.folder.parent))
        shutil.copyfile(own, unfinished / self.file.name)
        shutil.copyfile(checksum_of(own), checksum_of(unfinished / self.file.name))
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
        stage_id: Hash of all that determines the stage: config, data and code.
        module: The run's module.
        checkpoint: Knows the run's own checkpoints.

    Returns:
        The stage; None where there is none, or where its schedule follows validation, which
        depends on what is hidden.
    """
    schedule = str((config.scheduler or {}).get("_target_"))
    if not module.shared_epochs or schedule.endswith("ReduceLROnPlateau"):
        return None
    counted = "" if config.diagnostics == "off" else "-counted"  # the cost of its steps
    name = f"{config.choices['method']}-seed{config.seed}-{stage_id}{counted}"
    folder = Path(config.paths.output_dir) / "stages" / name
    return SharedStage(folder, module.shared_epochs, checkpoint)
