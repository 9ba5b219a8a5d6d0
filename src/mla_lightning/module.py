"""Base class of methods: a LightningModule with optimisation steps and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial, reduce
from operator import add
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mla_lightning import ranks
from mla_lightning.batch import Batch, chunks_of
from mla_lightning.encoding import EncodingModule
from mla_lightning.errors import ConfigError
from mla_lightning.functional.precision import no_autocast
from mla_lightning.metrics.evaluation import Evaluation
from mla_lightning.metrics.losses import TrainingLosses
from mla_lightning.metrics.residuals import residual_variance
from mla_lightning.parts import Composition, StepObserver
from mla_lightning.randomness import derive_seed
from mla_lightning.run_folder.columns import EPOCH, LR, MULTI, TRAIN_LOSS, validation
from mla_lightning.run_folder.tasks import PRIMARY

__all__ = ["Batch", "MultimodalModule"]


class MultimodalModule(EncodingModule):
    """Encoders, a fusion and one optimiser; a subclass defines ``fit_batch``.

    A method is what happens to one batch: one or more calls of :meth:`step_on`. Everything else
    (precision, clipping, counters, schedules, evaluation, the check for non-finite losses) is
    implemented once, here.

    Example:
        A method that trains everything on the fused logits, with a Trainer of your own:

        >>> from functools import partial
        >>> from lightning.pytorch import Trainer
        >>> class FusedLoss(MultimodalModule):
        ...     def fit_batch(self, batch):
        ...         def losses_of(chunk):
        ...             fused = self.fusion(self.features(chunk), self.parts.presence(chunk))
        ...             return {"joint": self.parts.loss(fused, chunk)}
        ...
        ...         return self.step_on(batch, losses_of)
        >>> module = FusedLoss(
        ...     encoders={"audio": nn.Linear(3, 4), "visual": nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ... )
        >>> audio, visual = torch.randn(6, 3), torch.randn(6, 5)
        >>> batch = {"audio": audio, "visual": visual, "label": torch.tensor([0, 1] * 3)}
        >>> loader = torch.utils.data.DataLoader([batch], batch_size=None)
        >>> trainer = Trainer(
        ...     max_epochs=2,
        ...     accelerator="cpu",
        ...     logger=False,
        ...     enable_checkpointing=False,
        ...     enable_progress_bar=False,
        ...     enable_model_summary=False,
        ... )
        >>> trainer.fit(module, loader, loader)
        >>> [name for name in module.epoch_metrics if "acc" in name or "loss" in name]
        ['train/loss/joint', 'val/acc', 'val/acc/audio', 'val/acc/visual']
    """

    def __init__(self, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            **parts: ``encoders``, ``num_classes``, ``optimizer`` and others; see
                :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If the parts do not fit the training rule; see
                :func:`~mla_lightning.composition.check_composition`.
        """
        super().__init__(**parts)
        self.automatic_optimization = False  # a batch takes several steps; see step_on
        self.losses = TrainingLosses()
        self.epoch_metrics: dict[str, float] = {}
        self._edit_grads: Callable[[], None] | None = None
        self._evaluation = Evaluation(self.parts.num_classes)
        #: What the user should know about the run besides its numbers.
        self.notes: set[str] = set()
        #: Called around every step, if set; for diagnostics.
        self.step_observer: StepObserver | None = None
        #: Context of what is computed at the start of an epoch; for diagnostics.
        self.pass_observer: Callable[[], AbstractContextManager[None]] = nullcontext
        #: Seconds of the training so far that diagnostics took.
        self.diagnostics_s = 0.0
        #: Whether predictions also contain the encoders' features.
        self.returns_features = False
        #: Returns the signal that asks this rank to stop, 0 if none does.
        self.stop_request: Callable[[], int] = int
        #: Signal that asked any rank to stop, as agreed in the last step; 0 if none did.
        self.agreed_signal = 0
        self._edit_seed = 0

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
        """Return the validation metric by which the weights of each reported modality are selected.

        Returns:
            Reported modality (``multi`` or a modality) -> validation metric. By default all are
            evaluated with the weights of one epoch, the best by the task's primary metric of the
            fused logits, or by what ``select_by`` names.
        """
        return dict.fromkeys((MULTI, *self.modalities), self.parts.selection.column)

    @property
    def is_selectable(self) -> bool:
        """Return whether the epoch's weights may be selected; false in a preparatory stage."""
        return True

    def clipped_groups(self) -> list[list[nn.Parameter]]:
        """Return the groups of parameters whose gradients are clipped, each by its own norm.

        Returns:
            Groups of parameters: one per modality in a method that trains each as if it were alone.
            Empty, the default, for the norm of all gradients, so that a step keeps its direction.
        """
        return []

    # ------------------------------------------------------------------ what a method uses

    def step_on(
        self,
        batch: Batch,
        losses_of: Callable[[Batch], dict[str, Tensor]],
        *,
        edit_grads: Callable[[], None] | None = None,
    ) -> dict[str, Tensor]:
        """Take one optimisation step: backward, edit, clip, step. Every method trains through this.

        Gradients start as None, so a parameter that no loss reaches stays bit for bit the same: no
        momentum, no weight decay.

        Args:
            batch: The batch.
            losses_of: Batch -> losses by name, each a mean over the batch; their sum is minimised.
                Called once per chunk of the batch. A mean over the samples that have a modality is
                multiplied by :func:`~mla_lightning.batch.relative_share`, which
                :meth:`~mla_lightning.parts.Parts.unimodal_losses` does.
            edit_grads: Changes gradients in place before clipping. They are unscaled and in the
                parameters' own precision, and autocast is off.

        Returns:
            The losses by name over the whole batch, without graph.
        """
        optimizer = self.trainer.optimizers[0]  # the raw one: Lightning's would count every step
        loop = self.trainer.fit_loop.epoch_loop
        is_plain = getattr(loop, "is_backward_plain", False)
        self._clear_grads(optimizer)
        losses: dict[str, Tensor] = {}
        for chunk, fraction in chunks_of(batch, self.parts.accumulate):
            chunk_losses = losses_of(chunk)
            if not chunk_losses:  # no sample of the chunk has any modality
                continue
            loss = reduce(add, chunk_losses.values())
            loss = loss if fraction == 1.0 else loss * fraction
            loss.backward() if is_plain else self.manual_backward(loss)
            for name, value in chunk_losses.items():
                value = value.detach() if fraction == 1.0 else value.detach() * fraction
                losses[name] = losses[name] + value if name in losses else value
        if ranks.world_size() > 1:
            self._sum_over_ranks(optimizer)
        self._edit_grads = edit_grads
        if self.step_observer is not None:
            self.step_observer.before_step("+".join(losses))
        if getattr(loop, "is_step_plain", False):
            hook: Any = partial(self.on_before_optimizer_step, optimizer)  # in place of a loss
            optimizer.step(hook)
        else:
            self.trainer.strategy.optimizer_step(optimizer, lambda: None)
        self._edit_grads = None
        if self.step_observer is not None:
            self.step_observer.after_step()
        return losses

    def full_precision(self) -> AbstractContextManager[None]:
        """Return a context without graph and autocast, for what a method remembers.

        Under autocast a recursion over many batches would round every product to half precision.
        """
        device = self.device.type
        return no_autocast(device) if torch.is_autocast_enabled(device) else torch.no_grad()

    def _clear_grads(self, optimizer: Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)

    def _sum_over_ranks(self, optimizer: Optimizer) -> None:
        """Replace gradients by their sums over ranks, and agree on whether to stop."""
        if not self.is_set_up:
            raise ConfigError(f"{type(self).__name__}.setup must call super().setup(stage)")
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        means = () if self.parts.sync_batchnorm else ranks.running_statistics(self)
        wishes = self.stop_request(), int(self.trainer.should_stop)
        self.agreed_signal, is_end = ranks.sum_gradients(parameters, means, wishes)
        self.trainer.should_stop = bool(is_end)

    # ------------------------------------------------------------------ Lightning: training

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Edit and clip gradients; Lightning calls this when they are unscaled."""
        if self.step_observer is not None:
            self.step_observer.record_gradient("raw")
        if self._edit_grads is not None:
            common = ranks.common_randomness(self._edit_seed, self.device)
            with self.full_precision(), common:
                self._edit_grads()
            self._edit_seed += 1
            if self.step_observer is not None:
                self.step_observer.record_gradient("edited")
        if self.parts.clip_norm is not None:
            self._clip_gradients(optimizer, self.parts.clip_norm)

    def _clip_gradients(self, optimizer: Optimizer, largest_norm: float) -> None:
        """Clip each group's gradients by its norm, through the Trainer if there is one group."""
        groups = self.clipped_groups()
        if not groups:
            self.clip_gradients(optimizer, largest_norm, "norm")
        for group in groups:
            nn.utils.clip_grad_norm_(group, largest_norm)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout and gradient noise by (seed, epoch, batch)."""
        place = self.parts.seed, "batch", self.current_epoch, batch_idx
        self._edit_seed = derive_seed(*place)
        is_shared = ranks.world_size() > 1
        seed = derive_seed(*place, "rank", ranks.rank()) if is_shared else self._edit_seed
        ranks.seed_generators(seed, self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Train on the batch and count it as one global step."""
        losses = self.fit_batch(batch)
        # trainer.global_step is read from here, and has no public setter. Lightning would count
        # each call of its own optimiser, of which step_on makes none.
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        progress.increment_completed()
        self.losses.add(batch_idx, losses)
        if self.losses.num_unread >= self.parts.log_every_n_batches:
            means = self.losses.read(self.current_epoch)
            row = {f"{TRAIN_LOSS}{name}": mean for name, mean in means.items()}
            row[EPOCH] = self.current_epoch + (batch_idx + 1) / self.trainer.num_training_batches
            for logger in self.loggers:
                logger.log_metrics(row, step=self.trainer.global_step)

    def on_train_epoch_start(self) -> None:
        """Clear the last epoch's metrics."""
        self.epoch_metrics = {}

    def on_train_epoch_end(self) -> None:
        """Step the schedule, which manual optimisation has to do itself, and average the losses."""
        losses = self.losses.end_epoch(self.current_epoch)
        means = {f"{TRAIN_LOSS}{name}": mean for name, mean in losses.items()}
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.epoch_metrics = {LR: lr, **means, **self.epoch_metrics}
        if self.parts.logs_epochs:
            self.log_dict(means, logger=bool(self.loggers))
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                followed = validation(self.parts.selection.column)
                if followed not in self.epoch_metrics:
                    raise ConfigError(
                        f"ReduceLROnPlateau follows {followed}, and this epoch was not "
                        "validated: give trainer.fit a validation loader, or use another schedule."
                    )
                config.scheduler.step(self.epoch_metrics[followed])
            else:
                config.scheduler.step()

    def configure_optimizers(self) -> Any:
        """Build one optimiser of all parameters, and its schedule."""
        optimizer = self.parts.optimizer(self.trained_parameters())
        if self.parts.scheduler is None:
            return optimizer
        return [optimizer], [self.parts.scheduler(optimizer)]

    def trained_parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters of the optimiser."""
        return self.parameters()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the losses of an unfinished epoch, so that its mean is the same after a resume."""
        self.losses.read(self.current_epoch)
        checkpoint["epoch_losses"] = {k: list(v) for k, v in self.losses.epoch.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load the losses of an unfinished epoch."""
        self.losses.epoch = {k: list(v) for k, v in checkpoint["epoch_losses"].items()}

    # ------------------------------------------------------------------ Lightning: evaluation

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the logits of every reported modality from a batch; see :meth:`logits`."""
        return self.logits(self.features(batch), batch["present"])

    def logits(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the logits of every reported modality from features.

        Args:
            features: Modality -> feature (B, D_m).
            present: Modality -> (B,) bool.

        Returns:
            ``multi`` (fused) and each modality -> logits (B, C).
        """
        fused = self.fusion(features, present)
        return {MULTI: fused, **self.fusion.unimodal(features)}

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Compute what is recorded of a batch: the logits, those of a number in its own unit.

        Args:
            batch: The batch, as the encoders take it.

        Returns:
            ``multi`` and each modality -> (B, C).
        """
        logits = self.over_snapshots(lambda: self.evaluate_batch(batch))
        return {name: self.task.in_target_unit(z) for name, z in logits.items()}

    def on_validation_start(self) -> None:
        """Measure the residuals on train, if the weights of the modalities depend on them."""
        if getattr(self.fusion, "residual_variance", None) is not None:
            self.learn_residual_variance()

    @torch.no_grad()
    def learn_residual_variance(self) -> None:
        """Set each modality's variance of the residuals: the mean square of its own ones on train.

        They are those of the current weights, without dropout and augmentation. Residuals on train
        are smaller than on new samples where a modality overfits, as are the entropies of classes.
        """
        variance = self.fusion.residual_variance
        assert isinstance(variance, Tensor)
        own_logits = lambda batch: self.fusion.unimodal(self.features(batch))  # noqa: E731
        variance.copy_(residual_variance(self.task, self.training_batches(), own_logits))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect logits."""
        present = None if self.parts.is_complete else batch["present"]
        self._evaluation.add(self.outputs(batch), batch["label"], batch["index"], present)

    def on_validation_epoch_end(self) -> None:
        """Compute the validation metrics once, from all logits."""
        if self.parts.num_ranks > 1:  # not in a Trainer of the user that only evaluates
            self._evaluation.gather()
        scores = self._evaluation.scores(self.parts.epoch_metrics)
        self._evaluation.reset()
        metrics = {
            validation(column, modality): values[column]
            for column in self.parts.epoch_metrics
            for modality, values in scores.items()
        }
        self.epoch_metrics |= metrics
        # By None, trainer.validate returns the metrics even without a logger; True would warn.
        is_logged = None if self.parts.logs_epochs else False
        primary = validation(PRIMARY[self.task.name].column)
        self.log(primary, metrics[primary], prog_bar=True, logger=is_logged)
        if self.parts.logs_epochs:
            others = {key: value for key, value in metrics.items() if key != primary}
            self.log_dict(others, logger=is_logged)

    def predict_step(
        self, batch: Batch, batch_idx: int
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return logits by reported modality, labels and indices, for evaluation after training.

        The logits' dict also has ``present/<modality>``, and with ``returns_features``
        ``feature/<modality>``.
        """
        values = self.outputs(batch)
        values |= {f"present/{name}": has for name, has in batch["present"].items()}
        if self.returns_features:
            values |= {f"feature/{name}": h for name, h in self.pooled_features(batch).items()}
        return values, batch["label"], batch["index"]
