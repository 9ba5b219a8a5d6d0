"""The LightningModule that every method shares: parts, optimisation steps, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mla_lightning.batch import Batch, chunks_of
from mla_lightning.encoding import EncodingModule
from mla_lightning.metrics.evaluation import Evaluation
from mla_lightning.metrics.losses import TrainingLosses
from mla_lightning.parts import Composition, StepObserver
from mla_lightning.randomness import derive_seed
from mla_lightning.run_folder.columns import LR, TRAIN_LOSS, VAL_ACCURACY, validation

__all__ = ["Batch", "MultimodalModule"]


class MultimodalModule(EncodingModule):
    """Encoders, a fusion and one optimiser; a method adds ``fit_batch``.

    A method is what happens to one batch: one or several calls of :meth:`step_on`. Everything else
    (precision, clipping, counters, schedules, evaluation, the finite guard) exists once, here.
    """

    def __init__(self, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            **parts: ``encoders``, ``num_classes``, ``optimizer`` and others; see
                :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: As :func:`~mla_lightning.parts.check_composition` says.
        """
        super().__init__(**parts)
        self.automatic_optimization = False  # a batch takes several steps; see step_on
        self.losses = TrainingLosses()
        self.epoch_metrics: dict[str, float] = {}
        self._edit_grads: Callable[[], None] | None = None
        self._evaluation = Evaluation(self.parts.num_classes)
        #: What people should know of the run besides its numbers.
        self.notes: set[str] = set()
        #: Is told of every step of a batch, if there is one.
        self.step_observer: StepObserver | None = None
        #: Seconds spent during training on what is not training, such as diagnostics.
        self.diagnostics_s = 0.0
        #: Whether predictions carry the encoders' features, too.
        self.returns_features = False

    # ------------------------------------------------------------------ what a method defines

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Train on one batch: the algorithm box of the method's paper.

        Args:
            batch: The batch, on the module's device.

        Returns:
            The losses to report by name, each a scalar without graph.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define fit_batch")

    def selections(self) -> dict[str, str]:
        """Name the metric that selects the weights each reported modality is evaluated with.

        Returns:
            Reported modality (``multi`` or a modality) -> validation metric. By default one epoch,
            the best by fused accuracy, serves all.
        """
        return dict.fromkeys(("multi", *self.modalities), "acc")

    @property
    def is_selectable(self) -> bool:
        """Whether the current epoch's weights may be chosen; not while a method is in a stage."""
        return True

    # ------------------------------------------------------------------ what a method uses

    def step_on(
        self,
        batch: Batch,
        losses_of: Callable[[Batch], dict[str, Tensor]],
        *,
        edit_grads: Callable[[], None] | None = None,
    ) -> dict[str, Tensor]:
        """Backward, edit, clip, step: the one way in which any method changes weights.

        Gradients start as None, so a parameter that no loss reaches is left bit for bit as it was:
        no momentum, no weight decay.

        Args:
            batch: The batch.
            losses_of: Batch -> losses by name, each a mean over the batch; their sum is minimised.
                Called once per chunk of the batch.
            edit_grads: Changes gradients before clipping; sees them unscaled, in the parameters'
                own precision, with autocast off.

        Returns:
            The losses by name over the whole batch, without graph.
        """
        optimizer = self.trainer.optimizers[0]  # the raw one: Lightning's would count every step
        self._clear_grads(optimizer)
        losses: dict[str, Tensor] = {}
        for chunk, share in chunks_of(batch, self.parts.accumulate):
            of_chunk = losses_of(chunk)
            loss = reduce(add, of_chunk.values())
            self.manual_backward(loss if share == 1.0 else loss * share)
            for name, value in of_chunk.items():
                value = value.detach() if share == 1.0 else value.detach() * share
                losses[name] = losses[name] + value if name in losses else value
        self._edit_grads = edit_grads
        if self.step_observer is not None:
            self.step_observer.before_step("+".join(losses))
        self.trainer.strategy.optimizer_step(optimizer, lambda: None)
        self._edit_grads = None
        if self.step_observer is not None:
            self.step_observer.after_step()
        return losses

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        """Compute in the tensors' own precision, without graph: for what a method remembers.

        Under autocast a recursion over many batches would round every product to half precision.
        """
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            yield

    def _clear_grads(self, optimizer: Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)

    # ------------------------------------------------------------------ Lightning: training

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Edit and clip; Lightning calls this with gradients already unscaled."""
        if self.step_observer is not None:
            self.step_observer.record_gradient("raw")
        if self._edit_grads is not None:
            with self.full_precision():
                self._edit_grads()
            if self.step_observer is not None:
                self.step_observer.record_gradient("edited")
        if self.parts.clip_norm is not None:
            self.clip_gradients(optimizer, self.parts.clip_norm, "norm")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make dropout and gradient noise a function of (seed, epoch, batch)."""
        seed = derive_seed(self.parts.seed, "batch", self.current_epoch, batch_idx)
        # torch.manual_seed would queue a stack trace per call for every device not yet started:
        # milliseconds per batch, and kept for ever.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Let the method train on the batch and count it once."""
        losses = self.fit_batch(batch)
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        progress.increment_completed()
        self.losses.add(batch_idx, losses)
        if self.losses.num_unread >= self.parts.log_every_n_batches:
            recent = self.losses.read(self.current_epoch)
            for logger in self.loggers:
                logger.log_metrics(
                    {f"{TRAIN_LOSS}{name}": mean for name, mean in recent.items()},
                    step=self.trainer.global_step,
                )

    def on_train_epoch_end(self) -> None:
        """Step the schedule, which Lightning leaves to manual optimisation, and sum up losses."""
        losses = self.losses.end_epoch(self.current_epoch)
        means = {f"{TRAIN_LOSS}{name}": mean for name, mean in losses.items()}
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.epoch_metrics = {LR: lr, **means, **self.epoch_metrics}
        if self.parts.logs_epochs:
            self.log_dict(means, logger=bool(self.loggers))
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                config.scheduler.step(self.epoch_metrics[VAL_ACCURACY])
            else:
                config.scheduler.step()

    def configure_optimizers(self) -> Any:
        """Build one optimiser over all parameters and its schedule."""
        optimizer = self.parts.optimizer(self.trained_parameters())
        if self.parts.scheduler is None:
            return optimizer
        return [optimizer], [self.parts.scheduler(optimizer)]

    def trained_parameters(self) -> Iterable[nn.Parameter]:
        """Name what the optimiser steps on."""
        return self.parameters()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the losses of an unfinished epoch, so that its mean survives a resume."""
        self.losses.read(self.current_epoch)
        checkpoint["epoch_losses"] = {k: list(v) for k, v in self.losses.epoch.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the losses of an unfinished epoch back."""
        self.losses.epoch = {k: list(v) for k, v in checkpoint["epoch_losses"].items()}

    # ------------------------------------------------------------------ Lightning: evaluation

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the logits of every reported modality of a batch, as :meth:`logits` does."""
        return self.logits(self.features(batch), batch["present"])

    def logits(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the logits of every reported modality from features.

        Args:
            features: Modality -> feature (B, D_m).
            present: Modality -> (B,) bool.

        Returns:
            ``multi`` and each modality -> logits (B, C).
        """
        fused = self.fusion(features, present)
        return {"multi": fused, **self.fusion.unimodal(features)}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect logits."""
        present = None if self.parts.is_complete else batch["present"]
        self._evaluation.add(self.evaluate_batch(batch), batch["label"], batch["index"], present)

    def on_validation_epoch_end(self) -> None:
        """Compute the validation metrics once, from all logits."""
        scores = self._evaluation.scores(self.parts.epoch_metrics)
        self._evaluation.reset()
        found = {
            validation(column, modality): values[column]
            for column in self.parts.epoch_metrics
            for modality, values in scores.items()
        }
        self.epoch_metrics |= found
        is_logged = self.parts.logs_epochs and bool(self.loggers)
        self.log(VAL_ACCURACY, found[VAL_ACCURACY], prog_bar=True, logger=is_logged)
        if self.parts.logs_epochs:
            others = {key: value for key, value in found.items() if key != VAL_ACCURACY}
            self.log_dict(others, logger=is_logged)

    def on_train_epoch_start(self) -> None:
        """Forget the last epoch's metrics."""
        self.epoch_metrics = {}

    def predict_step(
        self, batch: Batch, batch_idx: int
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return logits by reported modality, labels and indices, for evaluation after training.

        Also ``present/<modality>``, and with ``returns_features`` ``feature/<modality>``.
        """
        values = self.evaluate_batch(batch)
        values |= {f"present/{name}": has for name, has in batch["present"].items()}
        if self.returns_features:
            values |= {f"feature/{name}": h for name, h in self.pooled_features(batch).items()}
        return values, batch["label"], batch["index"]
