"""The LightningModule that every method shares: parts, optimisation steps, evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mla_lightning.batch import Batch, chunks_of
from mla_lightning.errors import RunError
from mla_lightning.functional.sequences import mean_step
from mla_lightning.fusion.base import Fusion
from mla_lightning.inputs.base import Draws
from mla_lightning.metrics.evaluation import Evaluation
from mla_lightning.parts import Parts, Watch, refuse_what_cannot_be
from mla_lightning.randomness import derive_seed

__all__ = ["Batch", "MultimodalModule", "Parts"]


class MultimodalModule(LightningModule):
    """Encoders, a fusion and one optimiser; a method adds ``fit_batch``.

    A method is what happens to one batch: one or several calls of :meth:`step_on`. Everything else
    (precision, clipping, counters, schedules, evaluation, the finite guard) exists once, here.
    """

    fusion: Fusion
    #: Fewest modalities that the training rule makes sense for.
    min_modalities = 2
    #: Whether there is a rule for training samples that lack a modality.
    takes_incomplete = True
    #: Whether training batches must hold what was hidden.
    wants_truth = False
    #: Whether a batch may be trained on in chunks (``trainer.accumulate``) with the same gradient.
    takes_chunks = True
    #: Whether all training samples are fitted at once, as they are at the start.
    fits_all_at_once = False
    #: Epochs, from the first, that do not depend on what is hidden: runs may share them.
    shared_epochs = 0

    def __init__(self, parts: Parts) -> None:
        """Build the module.

        Args:
            parts: What the method is composed of.

        Raises:
            ConfigError: As :func:`~mla_lightning.parts.refuse_what_cannot_be` says.
        """
        super().__init__()
        self.modalities = tuple(parts.encoders)
        refuse_what_cannot_be(self, parts)
        self.automatic_optimization = False  # a batch takes several steps; see step_on
        self.encoders = nn.ModuleDict(parts.encoders)
        self.fusion = parts.built_fusion()
        self.parts = parts
        self.epoch_losses: dict[str, list[float]] = {}
        self.epoch_metrics: dict[str, float] = {}
        self._unchecked: list[tuple[int, dict[str, Tensor]]] = []
        self._edit_grads: Callable[[], None] | None = None
        self._evaluation = Evaluation(parts.num_classes)
        #: What people should know of the run besides its numbers.
        self.notes: set[str] = set()
        #: Told of every step of a batch, if there is one.
        self.watch: Watch | None = None
        #: Seconds spent during training on what is not training, such as diagnostics.
        self.aside_s = 0.0
        #: Whether predictions carry the encoders' features, too.
        self.keeps_features = False

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

    def features(self, batch: Batch) -> dict[str, Tensor]:
        """Encode every modality.

        Args:
            batch: A batch or a chunk of one.

        Returns:
            Modality -> feature (B, D_m).
        """
        if self.parts.is_complete:
            return {name: encoder(batch["inputs"][name]) for name, encoder in self.encoders.items()}
        return {name: self.encoded(name, batch) for name in self.modalities}

    def pooled_features(self, batch: Batch) -> dict[str, Tensor]:
        """Encode every modality, sequences averaged over their steps: modality -> (B, D_m)."""
        found = self.features(batch).items()
        return {name: h if h.ndim == 2 else mean_step(h) for name, h in found}

    def encoded(self, name: str, batch: Batch) -> Tensor:
        """Encode one modality of the samples that have it.

        Args:
            name: The modality.
            batch: A batch or a chunk of one.

        Returns:
            Features (B, D_m), zeros where the modality is absent.
        """
        x, encoder = batch["inputs"][name], self.encoders[name]
        there = batch["present"][name]
        if self.parts.is_complete or bool(there.all()):
            return encoder(x)
        if not there.any():
            width: int = encoder.out_features  # type: ignore[assignment]
            return x.new_zeros((len(x), width), dtype=torch.float32)
        found = encoder(x[there])
        return found.new_zeros((len(x), *found.shape[1:])).index_put(
            (there.nonzero()[:, 0],), found
        )

    def training_samples(self) -> Iterator[Batch]:
        """Go through the training split in its own order, not augmented, on the device."""
        for batch in self.parts.train_batches():
            yield self.received(batch)

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
        if self.watch is not None:
            self.watch.before_step("+".join(losses))
        self.trainer.strategy.optimizer_step(optimizer, lambda: None)
        self._edit_grads = None
        if self.watch is not None:
            self.watch.after_step()
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

    # ------------------------------------------------------------------ Lightning: inputs

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Make what encoders take of the batch's rows, on the device; at random in training."""
        return self.converted(batch, draw=self.trainer.training)

    def received(self, batch: Batch) -> Batch:
        """Make of a loader's batch what the trainer would: precision, device, inputs; not drawn."""
        given = self.trainer.precision_plugin.convert_input(batch)
        return self.converted(self.transfer_batch_to_device(given, self.device, 0), draw=False)

    def converted(self, batch: Batch, *, draw: bool) -> Batch:
        """Make what encoders take of a batch's rows.

        Args:
            batch: The batch, on the device.
            draw: Whether inputs are augmented.

        Returns:
            The batch with inputs, and truth where there is one, as encoders take them; hidden ones
            are zeros.
        """
        if not self.parts.inputs:
            return batch
        found = batch.copy()
        for part in ("inputs", "truth"):
            if part not in batch:
                continue
            values = dict(batch[part])
            for name, convert in self.parts.inputs.items():
                draws = None
                if draw:
                    draws = Draws(self.parts.seed, self.current_epoch, name, batch["index"])
                values[name] = convert(values[name], draws)
            found[part] = values
        for name, hidden in batch.get("hidden", {}).items():  # zeros as encoders take them
            x = found["inputs"][name]
            found["inputs"][name] = x.masked_fill(hidden.view(-1, *[1] * (x.ndim - 1)), 0)
        return found

    # ------------------------------------------------------------------ Lightning: training

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Edit and clip; Lightning calls this with gradients already unscaled."""
        if self.watch is not None:
            self.watch.gradient("raw")
        if self._edit_grads is not None:
            with self.full_precision():
                self._edit_grads()
            if self.watch is not None:
                self.watch.gradient("edited")
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
        self._unchecked.append((batch_idx, losses))
        if len(self._unchecked) >= self.parts.log_every_n_batches:
            recent = self.check_losses()
            for logger in self.loggers:
                logger.log_metrics(recent, step=self.trainer.global_step)

    def check_losses(self) -> dict[str, float]:
        """Read the losses not looked at yet: one transfer from the device for many batches.

        Returns:
            Their means, ``train/loss/<name>`` -> value; empty if there were none.

        Raises:
            RunError: If one is not finite, naming loss, epoch and batch.
        """
        unchecked, self._unchecked = self._unchecked, []
        if not any(losses for _, losses in unchecked):
            return {}
        names = list(dict.fromkeys(name for _, losses in unchecked for name in losses))
        seen = [(at, name, loss) for at, losses in unchecked for name, loss in losses.items()]
        values = torch.stack([loss.float() for *_, loss in seen]).tolist()
        sums, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
        for (at, name, _), value in zip(seen, values, strict=True):
            if not math.isfinite(value):
                raise RunError(
                    f"The {name} loss is {value} in epoch {self.current_epoch + 1}, batch {at + 1}."
                    " The last checkpoint before it is kept. Try a smaller optimizer.lr, or "
                    "trainer.clip_norm=1."
                )
            self.epoch_losses.setdefault(name, []).append(value)
            sums[name] += value
            counts[name] += 1
        return {f"train/loss/{name}": sums[name] / counts[name] for name in names}

    def on_train_epoch_end(self) -> None:
        """Step the schedule, which Lightning leaves to manual optimisation, and sum up losses."""
        self.check_losses()
        optimizer = self.trainer.optimizers[0]
        means = {f"train/loss/{k}": math.fsum(v) / len(v) for k, v in self.epoch_losses.items()}
        self.epoch_metrics = {"lr": optimizer.param_groups[0]["lr"], **means, **self.epoch_metrics}
        self.epoch_losses = {}
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                config.scheduler.step(self.epoch_metrics["val/acc"])
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
        self.check_losses()
        checkpoint["epoch_losses"] = {k: list(v) for k, v in self.epoch_losses.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the losses of an unfinished epoch back."""
        self.epoch_losses = {k: list(v) for k, v in checkpoint["epoch_losses"].items()}

    # ------------------------------------------------------------------ Lightning: evaluation

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the logits of every reported modality of a batch, as :meth:`answers` does."""
        return self.answers(self.features(batch), batch["present"])

    def answers(
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
        scores = self._evaluation.metrics()
        self._evaluation.reset()
        for key, metric in (("acc", "accuracy"), ("f1_macro", "macro_f1"), ("ece", "ece")):
            for modality, values in scores.items():
                suffix = "" if modality == "multi" else f"/{modality}"
                self.epoch_metrics[f"val/{key}{suffix}"] = values[metric]
        # Not to the loggers, which get the epoch's whole row.
        self.log("val/acc", self.epoch_metrics["val/acc"], prog_bar=True, logger=False)

    def on_train_epoch_start(self) -> None:
        """Forget the last epoch's metrics."""
        self.epoch_metrics = {}

    def predict_step(
        self, batch: Batch, batch_idx: int
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return logits by reported modality, labels and indices, for evaluation after training.

        Also ``present/<modality>``, and with ``keeps_features`` ``feature/<modality>``.
        """
        values = self.evaluate_batch(batch)
        values |= {f"present/{name}": has for name, has in batch["present"].items()}
        if self.keeps_features:
            values |= {f"feature/{name}": h for name, h in self.pooled_features(batch).items()}
        return values, batch["label"], batch["index"]
