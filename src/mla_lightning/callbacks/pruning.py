"""Early end of a trial whose score on validation is below what its search expects by then."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import Callback, LightningModule, Trainer

from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.errors import Pruned
from mla_lightning.module import MultimodalModule
from mla_lightning.run_folder.floor import floor_reason


class StopBelow(Callback):
    """Ends a run between two epochs, when the checkpoint of the earlier one has been written.

    The same job without a floor resumes from there, and ends as if it had never stopped.
    """

    def __init__(self, floor: Sequence[float], checkpoint: RunCheckpoint) -> None:
        """Store the floor.

        Args:
            floor: The lowest score on validation with which a run goes on, for each number of
                finished epochs from 1; of an error, its negative.
            checkpoint: Holds the best values of the epochs so far.
        """
        self.floor, self.checkpoint = floor, checkpoint

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the best score so far with the floor.

        Raises:
            Pruned: If it is below.
        """
        assert isinstance(pl_module, MultimodalModule)
        epoch = trainer.current_epoch
        if not 0 < epoch <= len(self.floor):
            return
        metrics = dict.fromkeys(pl_module.selections().values())
        selection = pl_module.parts.selection
        best = self.checkpoint.best
        values = [selection.sign * best[m][0] for m in metrics if m in best]
        if len(values) < len(metrics):  # only preparatory epochs so far
            return
        score, low = sum(values) / len(values), self.floor[epoch - 1]
        if score < low:
            num_epochs = trainer.max_epochs or epoch
            raise Pruned(floor_reason(epoch, num_epochs, score, low, selection))
