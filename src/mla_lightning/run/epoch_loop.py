"""The Trainer's loop over the batches of an epoch, without calls that have no effect."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lightning.pytorch.loops.fetchers import _DataFetcher, _DataLoaderIterDataFetcher
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer import call
from lightning.pytorch.utilities.model_helpers import is_overridden

from mla_lightning.module import MultimodalModule
from mla_lightning.run.rank_strategy import RankStrategy

_BATCH_HOOKS = ("on_train_batch_start", "on_train_batch_end")
_BACKWARD_HOOKS = ("on_before_backward", "on_after_backward")
_STEP_HOOK = "on_before_optimizer_step"


class EpochLoop(_TrainingEpochLoop):
    """Lightning's loop over the batches of an epoch, which calls only hooks that are defined.

    For every batch Lightning also calls the empty hooks of every callback, steps schedules that
    manual optimisation steps itself, and inspects signatures; for small encoders all that takes
    longer than a step. The order of the calls and all counters are Lightning's, and its own
    loop runs the first batch after a resume and whatever is not a run of this package's methods.

    Attributes:
        is_backward_plain: Whether nothing but ``loss.backward()`` happens in a backward pass: no
            hook is defined, and the loss is not scaled. Two steps per batch would otherwise call
            a dozen empty hooks.
        is_step_plain: Whether also nothing happens before the optimiser's step but what
            :class:`~mla_lightning.module.MultimodalModule` itself does.
    """

    is_backward_plain = False
    is_step_plain = False

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        """Find out which hooks are defined, at the start of an epoch."""
        super().on_run_start(data_fetcher)
        trainer, module = self.trainer, self.trainer.lightning_module
        self._module_hooks = {name for name in _BATCH_HOOKS if is_overridden(name, module)}
        self._callback_hooks = {
            name
            for name in (*_BATCH_HOOKS, *_BACKWARD_HOOKS, _STEP_HOOK)
            if any(is_overridden(name, callback) for callback in trainer.callbacks)
        }
        self.is_backward_plain = (
            type(trainer.strategy) in (SingleDeviceStrategy, RankStrategy)
            and type(trainer.precision_plugin) is Precision
            and not self._callback_hooks.intersection(_BACKWARD_HOOKS)
            and not any(is_overridden(name, module) for name in ("backward", *_BACKWARD_HOOKS))
        )
        self.is_step_plain = (
            self.is_backward_plain
            and _STEP_HOOK not in self._callback_hooks
            and not is_overridden(_STEP_HOOK, module, MultimodalModule)
        )
        self._is_plain = (
            not module.automatic_optimization
            and trainer.datamodule is None
            and type(trainer.strategy) in (SingleDeviceStrategy, RankStrategy)
            and not isinstance(data_fetcher, _DataLoaderIterDataFetcher)
        )

    def _broadcast_sigterm_tensor(self) -> None:
        """Send nothing: signals reach all ranks with the gradients."""

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Train on one batch.

        Args:
            data_fetcher: Returns the next batch.

        Raises:
            StopIteration: If a hook ends the epoch by returning -1.
        """
        if self.restarting or not self._is_plain:
            super().advance(data_fetcher)
            return
        trainer, module, progress = self.trainer, self.trainer.lightning_module, self.batch_progress
        self.val_loop.restarting = False
        batch, _, _ = next(data_fetcher)
        batch_idx = self.batch_idx + 1
        progress.is_last_batch = data_fetcher.done
        batch = trainer.precision_plugin.convert_input(batch)
        batch = module.on_before_batch_transfer(batch, 0)
        batch = module.transfer_batch_to_device(batch, trainer.strategy.root_device, 0)
        batch = module.on_after_batch_transfer(batch, 0)
        progress.increment_ready()
        trainer._logger_connector.on_batch_start(batch)
        if self._call("on_train_batch_start", batch, batch_idx) == -1:
            progress.increment_by(0, is_last_batch=True)
            progress.increment_processed()
            raise StopIteration
        progress.increment_started()
        arguments = OrderedDict(batch=batch, batch_idx=batch_idx)
        with trainer.profiler.profile("run_training_batch"):
            output = self.manual_optimization.run(arguments)
        progress.increment_processed()
        self._call("on_train_batch_end", output, batch, batch_idx)
        if self._results:
            trainer._logger_connector.on_batch_end()
            progress.increment_completed()
            trainer._logger_connector.update_train_step_metrics()
        else:  # nothing was logged by self.log
            self._results.batch = self._results.batch_size = None
            progress.increment_completed()

    def _call(self, hook: str, *arguments: Any) -> Any:
        """Call a hook of the callbacks and of the module, and return what the module's returns."""
        if hook in self._callback_hooks:
            call._call_callback_hooks(self.trainer, hook, *arguments)
        if hook in self._module_hooks:
            return call._call_lightning_module_hook(self.trainer, hook, *arguments)
        return None


class NoProfiler(PassThroughProfiler):
    """A profiler that measures nothing; Lightning's own enters a generator around every call."""

    _context: AbstractContextManager[None] = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Return a context that does nothing.

        Args:
            action_name: Not used.

        Returns:
            The context.

        Example:
            >>> with NoProfiler().profile("optimizer_step"):
            ...     pass
        """
        return self._context
