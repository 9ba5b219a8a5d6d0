"""Early end of training when validation no longer improves."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mla_lightning.module import MultimodalModule
from mla_lightning.run_folder.columns import validation
from mla_lightning.run_folder.schema import Count

NOTE = "Training ended early: validation had not improved for {} epochs (early stopping)."


class EarlyStopping(Callback):
    """Ends training when the score by which the epoch is selected has not improved for a while.

    The score is that of ``select_by`` on the validation split, so the weights that are evaluated
    are the same as if training had ended right after the best epoch. A run that selects an epoch
    for each modality ends when none of them improves. Preparatory epochs, whose weights are not
    selected, do not count. Checkpoints hold the best scores, so a resumed run ends where an
    uninterrupted one does.

    Example:
        >>> stopping = EarlyStopping(patience=2)
        >>> [stopping.has_ended({"acc": score}, sign=1) for score in (0.5, 0.6, 0.6, 0.6)]
        [False, False, False, True]
    """

    def __init__(self, patience: Count = 10) -> None:
        """Store the patience.

        Args:
            patience: Number of epochs without an improvement after which training ends, at least 1.

        Raises:
            ValueError: If it is smaller.
        """
        if patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience}")
        self.patience = patience
        #: Metric -> best score so far, larger is better.
        self.best: dict[str, float] = {}
        #: Number of epochs since one of them improved.
        self.num_waited = 0

    def has_ended(self, scores: dict[str, float], sign: int) -> bool:
        """Take the scores of an epoch, and return whether training ends with it.

        Args:
            scores: Metric -> its value in this epoch.
            sign: 1 if larger values are better, -1 for errors.
        """
        better = {
            name: sign * value
            for name, value in scores.items()
            if name not in self.best or sign * value > self.best[name]
        }
        self.best |= better
        self.num_waited = 0 if better else self.num_waited + 1
        return self.num_waited >= self.patience

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the epoch with the best one, and ask the Trainer to stop."""
        assert isinstance(pl_module, MultimodalModule)
        if not pl_module.is_selectable:
            return
        selection = pl_module.parts.selection
        names = dict.fromkeys(pl_module.selections().values())
        scores = {name: pl_module.epoch_metrics[validation(name)] for name in names}
        if self.has_ended(scores, selection.sign):
            trainer.should_stop = True
            if trainer.current_epoch + 1 < (trainer.max_epochs or 0):
                pl_module.notes.add(NOTE.format(self.patience))

    def state_dict(self) -> dict[str, Any]:
        """Return the best scores and the number of epochs without an improvement."""
        return {"best": dict(self.best), "num_waited": self.num_waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load them."""
        self.best, self.num_waited = dict(state_dict["best"]), int(state_dict["num_waited"])
