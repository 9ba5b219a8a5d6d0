"""SIGTERM and Ctrl-C: finish the batch, write a checkpoint, end with the signal's exit code."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.errors import Interrupted, MLAError, Preempted


class StopOnSignal(Callback):
    """On a signal, writes a checkpoint after the current batch and raises an error.

    Lightning alone ends with exit code 0 after SIGTERM, which a scheduler takes for success. The
    handler only stores the signal. A second Ctrl-C ends the process immediately; files stay valid,
    since all are replaced atomically.
    """

    def __init__(self, checkpoint: RunCheckpoint) -> None:
        """Store the checkpoints; handlers are set when training starts, after Lightning's.

        Args:
            checkpoint: Writes the checkpoint.
        """
        self.checkpoint = checkpoint
        self.received: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the handlers; Lightning restores the earlier ones when the fit ends.

        Only the main thread may set handlers; a run in another thread does not react to signals.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        signal.signal(signal.SIGTERM, self._store)
        signal.signal(signal.SIGINT, self._store)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after this batch, unless it is the epoch's last."""
        if self.received is not None and self.checkpoint.save_within_epoch(trainer, batch_idx):
            raise self._error()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before an epoch, when the checkpoint of the last one has been written."""
        if self.received is not None and trainer.current_epoch > 0:
            raise self._error()

    def _store(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and self.received == signal.SIGINT:
            os._exit(Interrupted.exit_code)
        self.received = signum

    def _error(self) -> MLAError:
        if self.received == signal.SIGINT:
            return Interrupted("Interrupted; run the same command again to resume from here.")
        return Preempted("Ended by SIGTERM; run the same command again to resume from here.")
