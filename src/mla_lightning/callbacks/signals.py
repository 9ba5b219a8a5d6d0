"""Signals to stop: finish the batch, write a checkpoint, end with the signal's exit code."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mla_lightning import ranks
from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.errors import Interrupted, MLAError, Preempted
from mla_lightning.module import MultimodalModule
from mla_lightning.run_folder.stop_signals import STOP_SIGNALS

#: Seconds from a signal in which validation may end, so that the epoch need not be trained again.
#: Schedulers kill a job 30 s after the signal, and its checkpoint takes time, too.
VALIDATION_S = 10.0


class StopRequested(BaseException):
    """A signal asked the job to stop.

    It is no ``Exception``, so that no code which handles its own errors suppresses it.
    """


class StopSignals:
    """The signals that ask a job to stop, from its start until its result is written.

    In training the signal is only stored: the batch is finished and a checkpoint written first; see
    :class:`StopOnSignal`. At any other time, such as in the evaluation after training, all that is
    needed to resume is on the disk already, and the job stops at once by :class:`StopRequested`.
    A second Ctrl-C ends the process immediately; files stay valid, since all are replaced
    atomically.

    Attributes:
        received: The signal; None until there is one.
        is_deferred: Whether a signal is only stored.

    Example:
        >>> with StopSignals() as signals:
        ...     signals.is_deferred = True
        ...     signal.raise_signal(signal.SIGTERM)
        ...     type(signals.error()).__name__
        'Preempted'
    """

    def __init__(self) -> None:
        """Prepare; the handlers are set when the context is entered."""
        self.received: int | None = None
        self.is_deferred = False
        self._received_at = 0.0
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        """Set the handlers, and remember the earlier ones."""
        self._before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        self.set_handlers()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Set the earlier handlers again."""
        if _is_main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def set_handlers(self) -> None:
        """Set the handlers, also where Lightning has set its own.

        Only the main thread may set handlers; a run in another thread does not react to signals.
        """
        if _is_main_thread():
            for number in STOP_SIGNALS:
                signal.signal(number, self._receive)

    def raise_if_received(self) -> None:
        """Stop if a signal was received.

        Raises:
            StopRequested: If so.
        """
        if self.received is not None:
            raise StopRequested

    def take_over(self, number: int) -> None:
        """Act as if this process had received the signal of another rank.

        Args:
            number: The signal; 0 if there was none.
        """
        if number and self.received is None:
            self.received, self._received_at = number, time.monotonic()

    def age_s(self) -> float:
        """Return the number of seconds since the first signal; 0 if there is none."""
        return 0.0 if self.received is None else time.monotonic() - self._received_at

    def error(self) -> MLAError:
        """Return the error to end the job with."""
        if self.received == signal.SIGINT:
            return Interrupted("Interrupted; run the same command again to resume from here.")
        name = signal.Signals(self.received or signal.SIGTERM).name
        return Preempted(f"Ended by {name}; run the same command again to resume from here.")

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked child, such as a loader worker that starts
            return
        if number == signal.SIGINT and self.received == signal.SIGINT:
            os._exit(Interrupted.exit_code)
        is_first = self.received is None
        self.received = number
        if is_first:
            self._received_at = time.monotonic()
            if not self.is_deferred:
                raise StopRequested


class StopOnSignal(Callback):
    """On a signal, writes a checkpoint after the current batch of training, and stops.

    Lightning alone ends with exit code 0 after SIGTERM, which a scheduler takes for success. A
    signal to any rank stops all of them after the same batch: each tells the others with the
    gradients of its steps.
    """

    def __init__(self, checkpoint: RunCheckpoint, signals: StopSignals) -> None:
        """Store the checkpoints and the signals.

        Args:
            checkpoint: Writes the checkpoint.
            signals: The signals of the job, whose handlers are set.
        """
        self.checkpoint, self.signals = checkpoint, signals

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Defer signals to the end of a batch; Lightning's handlers are replaced."""
        assert isinstance(pl_module, MultimodalModule)
        self.signals.is_deferred = True
        self.signals.set_handlers()
        pl_module.stop_request = lambda: self.signals.received or 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after this batch, unless it is the epoch's last."""
        is_asked = self.signals.received is not None
        if ranks.world_size() > 1:  # one that came after the step is for the next batch
            assert isinstance(pl_module, MultimodalModule)
            is_asked = pl_module.agreed_signal > 0
            self.signals.take_over(pl_module.agreed_signal)
        if is_asked and self.checkpoint.save_within_epoch(trainer, batch_idx):
            raise StopRequested

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop within a long validation, without a checkpoint: the epoch is not complete."""
        is_late = self.signals.age_s() > VALIDATION_S
        if self._agreed(self.signals.received if is_late else None):
            raise StopRequested

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before an epoch, when the checkpoint of the last one has been written."""
        if trainer.current_epoch > 0 and self._agreed(self.signals.received):
            raise StopRequested

    def _agreed(self, number: int | None) -> bool:
        """Return whether this rank has a signal to act on, or another one, and take that over."""
        agreed = int(ranks.largest(torch.tensor(number or 0)))
        self.signals.take_over(agreed)
        return agreed > 0

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once from now on: the last checkpoint has been written."""
        self.signals.is_deferred = False

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stop at once from now on."""
        self.signals.is_deferred = False

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop within an evaluation if the signal's own exception was lost."""
        self.signals.raise_if_received()


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
