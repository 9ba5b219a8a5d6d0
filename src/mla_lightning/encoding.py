"""Base of every method: from batches to features, through inputs and encoders."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from mla_lightning import ranks
from mla_lightning.batch import Batch, as_batch, check_labels
from mla_lightning.composition import (
    check_composition,
    check_mixing,
    check_strategy,
    check_train_batches,
)
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.functional import fuse_logits, mean_weights
from mla_lightning.functional.sequences import mean_of_present_steps
from mla_lightning.fusion.base import Fusion
from mla_lightning.fusion.concat import Concat
from mla_lightning.inputs.base import BatchRandomness
from mla_lightning.inputs.scaled_columns import ScaledColumns, scaled_columns_of
from mla_lightning.parts import Composition, Parts, out_width
from mla_lightning.run_folder.tasks import MethodRules


class EncodingModule(LightningModule):
    """Encoders, a fusion, and the conversion of batches to what they take.

    Class attributes describe the training rule of a class; arguments are what an instance is
    composed of.
    """

    fusion: Fusion
    #: The fusion if none is given.
    default_fusion: Callable[..., Fusion] = Concat
    #: Name of the rule by which a single modality's logits are computed, if it is not the fusion's.
    unimodal_rule: str = ""
    #: Smallest number of modalities that the training rule is defined for.
    min_modalities = 2
    #: Whether something is remembered of every training sample, by its ``index``.
    needs_num_train = False
    #: Whether the training rule is defined for samples with missing modalities.
    takes_incomplete = True
    #: Whether training batches must also hold the inputs before hiding (``truth``).
    needs_hidden_inputs = False
    #: Whether a batch may be trained on in chunks (``trainer.accumulate``) with the same gradient.
    takes_chunks = True
    #: Whether several ranks may train one job (``trainer.devices``), each on its part of a batch:
    #: then the gradients summed over ranks are those of the whole batch. That is so if the losses
    #: are means over samples, as for ``takes_chunks``, and whatever else depends on all samples of
    #: a batch is computed by :mod:`mla_lightning.ranks`, in the same order on every rank. A class
    #: that is derived from one of this package says it for itself.
    takes_ranks = False
    #: Whether there is a loss on the fused logits.
    trains_fused_logits = True
    #: Whether all training samples are fitted at once, with the masks of the first epoch.
    fits_all_at_once = False
    #: Seconds of the training of other runs that this one builds on; they count as its own.
    earlier_train_s = 0.0
    #: Whether :meth:`setup` has prepared the module for training; methods of users may override it.
    is_set_up = False
    #: Whether there are optimisation steps, on which optimiser and schedule have an effect.
    takes_steps = True
    #: Whether the fit itself selects a setting on validation, by ``select_by``.
    selects_settings = False
    #: Whether the training split is also read as a whole, for means or for a classifier.
    needs_train_batches = False
    #: Whether samples of the training split are needed that are not trained on (``data.held_out``);
    #: an instance may set it, if that depends on a setting.
    needs_held_out = False
    #: Fewest held-out samples, as a multiple of the number of outputs of a head (classes).
    min_held_out_per_class = 1
    #: Number of first epochs that do not depend on what is hidden, so that runs may share them.
    shared_epochs = 0

    #: Whether the losses (or the fit) are those of ``self.parts.task``: then the training rule is
    #: defined for any task, and class weights have an effect.
    follows_task = False
    #: Task, or ``class_weights`` -> why the training rule is not defined for it, and what to use.
    not_for: Mapping[str, str] = {}

    def __init__(self, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            **parts: ``encoders``, ``num_classes``, ``optimizer`` and others; see
                :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If the parts do not fit the training rule; see
                :func:`~mla_lightning.composition.check_composition`.
        """
        super().__init__()
        self.parts = Parts(**{"fusion": type(self).default_fusion} | parts)
        self.modalities = tuple(self.parts.encoders)
        check_composition(self, self.parts)
        self.task = self.parts.task
        self.encoders = nn.ModuleDict(self.parts.encoders)
        self.fusion = self.parts.build_fusion()
        self._register_scales()
        if getattr(self.fusion, "residual_variance", None) is not None:
            check_train_batches(self, self.parts, "measures residuals on")
        check_mixing(self, self.parts)

    def _register_scales(self) -> None:
        """Register inputs with numbers of the training split, as a part of every checkpoint."""
        scaled = {m: c for m, c in self.parts.inputs.items() if isinstance(c, ScaledColumns)}
        if scaled:
            self.scales = nn.ModuleDict(scaled)
        elif hasattr(self, "scales"):
            del self.scales

    def take_scales(self, state: Mapping[str, Tensor]) -> None:
        """Scale features as in a run, whatever the data say that the module was built for.

        Args:
            state: The run's weights.
        """
        inputs = {m: c for m, c in self.parts.inputs.items() if not isinstance(c, ScaledColumns)}
        inputs |= scaled_columns_of(state)
        self.parts = replace(self.parts, inputs=inputs)
        self._register_scales()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; some are set many times per batch, such as the current hook's name."""
        if name in ("_current_fx_name", "_edit_grads", "_edit_seed"):
            self.__dict__[name] = value  # torch would first look whether it is a parameter
        else:
            super().__setattr__(name, value)

    def shared_epochs_of(self, num_epochs: int) -> int:
        """Return the number of first epochs that runs may share, of a run of so many epochs."""
        return self.shared_epochs

    def stage_content(self, checkpoint: dict[str, Any]) -> dict[str, Any] | None:
        """Return what runs share of the checkpoint at their end, None if it cannot be shared."""
        return checkpoint

    def combine(self, logits_MBC: Tensor, present_MB: Tensor) -> Tensor:
        """Combine the logits of models that are each selected on its own; their mean by default."""
        return fuse_logits(mean_weights(present_MB), logits_MBC)

    @property
    def num_train(self) -> int:
        """Number of training samples N, for methods that set ``needs_num_train``."""
        assert self.parts.num_train is not None, "set needs_num_train"
        return self.parts.num_train

    @classmethod
    def check_modalities(cls, modalities: Sequence[str]) -> None:
        """Check that there are enough modalities for the training rule.

        Args:
            modalities: The modalities in use.

        Raises:
            ConfigError: If there are too few.
        """
        MethodRules.of(cls).check_modalities(modalities)

    @classmethod
    def check_task(cls, task: str, *, has_class_weights: bool = False) -> None:
        """Check that the training rule is defined for the task of the data.

        Args:
            task: The task of the data.
            has_class_weights: Whether classes are weighted in the loss.

        Raises:
            ConfigError: If it is not, with the reason and what to use.

        Example:
            >>> from mla_lightning.methods import QMF
            >>> QMF.check_task("multilabel")
            >>> QMF.check_task("regression")
            Traceback (most recent call last):
            ...
            mla_lightning.errors.ConfigError: QMF is not for regression: one number has no energy.
            Use method=late_fusion or method=mla.
        """
        MethodRules.of(cls).check_task(task, has_class_weights=has_class_weights)

    @property
    def feature_dtype(self) -> torch.dtype:
        """Precision of the weights, which features have outside autocast."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.float32)

    def setup(self, stage: str) -> None:
        """Prepare for the precision and the number of ranks, before weights are loaded."""
        if stage != "fit":
            return
        check_strategy(self.trainer)
        if self.trainer.precision == "64-true":
            self.double()  # Lightning would load weights into single precision, and convert that
        if (count := ranks.world_size()) != self.parts.num_ranks:
            raise ConfigError(
                f"{count} processes train this module together, and it was built for "
                f"{self.parts.num_ranks}: its gradients would not be those of a whole batch. Use "
                "one device, or train a job with trainer.devices."
            )
        ranks.copy_from_first(self)
        if count > 1 and self.parts.sync_batchnorm:
            ranks.synchronise_batch_norms(self)
        self.is_set_up = True

    # ------------------------------------------------------------------ features

    def features(self, batch: Batch) -> dict[str, Tensor]:
        """Encode every modality.

        Args:
            batch: A batch or a chunk of one.

        Returns:
            Modality -> feature (B, D_m), zeros where the modality is absent; (B, T, D_m) for an
            encoder that returns sequences.
        """
        return {name: self.encode(name, batch) for name in self.modalities}

    def pooled_features(self, batch: Batch) -> dict[str, Tensor]:
        """Encode every modality, with sequences averaged over their present steps.

        Args:
            batch: A batch or a chunk of one.

        Returns:
            Modality -> feature (B, D_m).
        """
        return {
            name: h if h.ndim == 2 else mean_of_present_steps(h)
            for name, h in self.features(batch).items()
        }

    def encode(self, name: str, batch: Batch) -> Tensor:
        """Encode one modality of the samples that have it.

        Args:
            name: The modality.
            batch: A batch or a chunk of one.

        Returns:
            Features (B, D_m), zeros where the modality is absent.
        """
        return self.encode_by(self.encoders[name], name, batch)

    def encode_by(self, encoder: nn.Module, name: str, batch: Batch) -> Tensor:
        """Encode one modality by another encoder than its own, such as a teacher's.

        Args:
            encoder: The encoder.
            name: The modality.
            batch: A batch or a chunk of one.

        Returns:
            Features (B, D_m), zeros where the modality is absent.
        """
        x = batch["inputs"][name]
        if self.parts.is_complete:
            return encoder(x)
        has = batch["present"][name]
        if len(has) and bool(has.all()):
            return encoder(x)
        if not has.any():
            in_batch = batch.get("present_in_batch", batch["present"])[name]
            if not in_batch.any() or not ranks.is_synchronised(encoder):
                return x.new_zeros((len(x), out_width(name, encoder)), dtype=self.feature_dtype)
        h = self.encode_rows(name, x[has], encoder)
        return h.new_zeros((len(x), *h.shape[1:])).index_put((has.nonzero()[:, 0],), h)

    def encode_rows(self, name: str, x: Tensor, encoder: nn.Module | None = None) -> Tensor:
        """Encode inputs of one modality, of which a rank may have none.

        Its encoder then takes part in batch statistics that are those of all ranks.

        Args:
            name: The modality.
            x: Inputs (B, ...).
            encoder: The encoder; the modality's own by default.

        Returns:
            Features (B, D_m).
        """
        encoder = self.encoders[name] if encoder is None else encoder
        if len(x):
            return encoder(x)
        if not ranks.is_synchronised(encoder):
            return x.new_zeros((0, out_width(name, encoder)), dtype=self.feature_dtype)
        with ranks.without_samples():
            return encoder(x.new_zeros((1, *x.shape[1:])))[:0]

    def training_batches(self) -> Iterator[Batch]:
        """Iterate over the training split in its own order, not augmented, on the device.

        Yields:
            The batches.
        """
        assert self.parts.train_batches is not None
        needs = ("label", "index") if self.needs_num_train else ("label",)
        for batch in self.parts.train_batches():
            yield self.prepare_batch(self._as_batch(batch, needs))

    def held_out_batches(self) -> Iterator[Batch]:
        """Iterate over the samples that are held out from training, as :meth:`training_batches`.

        Yields:
            The batches; an ``index`` is the number of a sample among those held out.
        """
        assert self.parts.held_out_batches is not None
        for batch in self.parts.held_out_batches():
            yield self.prepare_batch(self._as_batch(batch, ("label",)))

    # ------------------------------------------------------------------ batches

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Accept a plain dict of tensors; see :func:`~mla_lightning.batch.as_batch`."""
        needs_index = self.needs_num_train and self.trainer.training
        labels = () if self.trainer.predicting else ("label",)
        complete = self._as_batch(batch, (*labels, "index") if needs_index else labels)
        if complete is not batch:  # those of a run are checked by its data
            if labels:
                check_labels(complete["label"], self.parts.num_classes, task=self.task.name)
            if needs_index:
                self._check_index(complete["index"])
        return complete

    def _as_batch(self, batch: Any, needs: Collection[str]) -> Batch:
        is_complete = self.parts.is_complete
        return as_batch(
            batch, self.modalities, needs=needs, is_complete=is_complete, task=self.task.name
        )

    def _check_index(self, index: Tensor) -> None:
        """Check that the numbers of training samples are below their number."""
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < self.num_train:
            raise DataError(
                f"batch['index'] must be from 0 to {self.num_train - 1}, as num_train="
                f"{self.num_train}; a batch has numbers from {int(index.min())} to "
                f"{int(index.max())}."
            )

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move the batch to the device; on the CPU without Lightning's search for tensors."""
        if device.type == "cpu" and all(
            isinstance(x, Tensor) and x.is_cpu
            for value in batch.values()
            for x in (value.values() if isinstance(value, dict) else (value,))
        ):
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Convert the batch's rows to inputs of encoders on the device; augment in training."""
        return self.convert_inputs(batch, augment=self.trainer.training)

    def prepare_batch(self, batch: Batch, epoch: int | None = None) -> Batch:
        """Prepare a loader's batch as the Trainer does: precision, device, inputs.

        Args:
            batch: A batch of a loader.
            epoch: The epoch as in which the batch is augmented; None for no augmentation.

        Returns:
            The batch on the device, as the encoders take it.
        """
        batch = self.trainer.precision_plugin.convert_input(batch)
        batch = self.transfer_batch_to_device(batch, self.device, 0)
        return self.convert_inputs(batch, augment=epoch is not None, epoch=epoch)

    def randomness_of(self, name: str, batch: Batch, epoch: int | None = None) -> BatchRandomness:
        """Return the random numbers of a modality of the samples of a batch.

        Args:
            name: The modality.
            batch: The batch, a chunk or a rank's part of one.
            epoch: The epoch; the present one by default.

        Returns:
            The numbers, which are those of the samples whatever the batch.
        """
        now = self.current_epoch if epoch is None else epoch
        copy = batch.get("copy")
        return BatchRandomness(self.parts.seed, now, name, batch["index"], copy)

    def convert_inputs(self, batch: Batch, *, augment: bool, epoch: int | None = None) -> Batch:
        """Convert the rows of a batch to what the encoders take.

        Args:
            batch: The batch, on the device.
            augment: Whether inputs are augmented, at random.
            epoch: The epoch as in which they are; None for the current one.

        Returns:
            The batch with converted ``inputs``, and ``truth`` if it has one; hidden inputs are
            zeros.
        """
        if not self.parts.inputs:
            return batch
        converted = batch.copy()
        for key in ("inputs", "truth"):
            if key not in batch:
                continue
            values = dict(batch[key])
            for name, convert in self.parts.inputs.items():
                randomness = self.randomness_of(name, batch, epoch) if augment else None
                values[name] = convert(values[name], randomness)
                if isinstance(convert, ScaledColumns):
                    values[name] = _known_rows(values[name], batch, name)
            converted[key] = values
        # Zeros of a store are not zeros after scaling: hidden inputs must be zeros to the encoder.
        for name, is_hidden in batch.get("hidden", {}).items():
            x = converted["inputs"][name]
            is_hidden = is_hidden.view(-1, *[1] * (x.ndim - 1))
            converted["inputs"][name] = x.masked_fill(is_hidden, 0)
        return converted


def _known_rows(x: Tensor, batch: Batch, name: str) -> Tensor:
    """Return scaled rows with zeros, which are the mean, where the data lack the modality."""
    is_known = batch["present"][name]
    for key in ("hidden", "left_out"):
        if key in batch:
            is_known = is_known | batch[key][name]
    return x.masked_fill(~is_known.view(-1, *[1] * (x.ndim - 1)), 0)
