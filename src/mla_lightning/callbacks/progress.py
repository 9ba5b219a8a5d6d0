"""The progress bar of a run in a terminal: losses by name, and what is evaluated after training."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from mla_lightning.module import MultimodalModule
from mla_lightning.run_folder.columns import TRAIN_LOSS


class RunProgress(RichProgressBar):
    """Shows the mean training loss of each name beside validation.

    The losses are those that training has read from the device anyway, so a step is not slowed:
    those of the epoch so far, or of the last epoch.
    """

    def __init__(self) -> None:
        """Prepare the bar."""
        super().__init__()
        #: What :meth:`lightning.pytorch.Trainer.predict` is called for.
        self.predicted = "Predicting"
        self._losses: dict[str, float] = {}

    @property
    def predict_description(self) -> str:
        """The text before the bar of an evaluation."""
        return self.predicted

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the losses of the epoch that has ended, before the module forgets them."""
        self.get_metrics(trainer, pl_module)
        super().on_train_epoch_start(trainer, pl_module)

    def _get_train_description(self, current_epoch: int) -> str:
        """Return the text before the bar of an epoch, counted from 1 as everywhere else."""
        text = f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"
        return f"{text:{len(self.validation_description)}}"

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return what is shown after the bar: losses first, then what the module has logged."""
        if isinstance(pl_module, MultimodalModule):
            epoch = pl_module.losses.epoch.items()
            read = {name: math.fsum(values) / len(values) for name, values in epoch}
            ended = {
                name.removeprefix(TRAIN_LOSS): value
                for name, value in pl_module.epoch_metrics.items()
                if name.startswith(TRAIN_LOSS)
            }
            self._losses = read or ended or self._losses
        shown = {f"loss/{name}": round(value, 3) for name, value in self._losses.items()}
        logged = super().get_metrics(trainer, pl_module).items()
        return shown | {name: v for name, v in logged if not name.startswith(TRAIN_LOSS)}


def name_prediction(trainer: Trainer, text: str) -> None:
    """Set the text before the bar of the next evaluation, if there is a bar.

    Args:
        trainer: The Trainer.
        text: The text, such as ``Evaluating test``.

    Example:
        >>> bar = RunProgress()
        >>> name_prediction(Trainer(callbacks=[bar], logger=False), "Evaluating test")
        >>> bar.predict_description
        'Evaluating test'
    """
    if isinstance(bar := trainer.progress_bar_callback, RunProgress):
        bar.predicted = text
