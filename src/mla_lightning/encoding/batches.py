"""Batches of a method: from what a loader gives to what the encoders take."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from mla_lightning.batch import Batch, as_batch, check_labels, num_in_batch
from mla_lightning.errors import DataError
from mla_lightning.inputs.base import BatchRandomness
from mla_lightning.inputs.scaled_columns import ScaledColumns, scaled_columns_of
from mla_lightning.parts import Parts
from mla_lightning.tasks import Task


class BatchModule(LightningModule):
    """Base of :class:`~mla_lightning.encoding.features.EncodingModule`, with its batches.

    Attributes:
        parts: The components of the method.
        modalities: Its modalities, in their order.
        task: The task of the data.
    """

    parts: Parts
    modalities: tuple[str, ...]
    task: Task
    #: Whether something is remembered of every training sample, by its ``index``.
    needs_num_train = False
    #: Number of samples that passes over the data have read so far, beside the training itself.
    num_read = 0

    @property
    def num_train(self) -> int:
        """Number of training samples N, for methods that set ``needs_num_train``."""
        assert self.parts.num_train is not None, "set needs_num_train"
        return self.parts.num_train

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

    def training_batches(self) -> Iterator[Batch]:
        """Iterate over the training split in its own order, not augmented, on the device.

        Yields:
            The batches.
        """
        assert self.parts.train_batches is not None
        needs = ("label", "index") if self.needs_num_train else ("label",)
        for batch in self.parts.train_batches():
            yield self.read_batch(self._as_batch(batch, needs))

    def held_out_batches(self) -> Iterator[Batch]:
        """Iterate over the samples that are held out from training, as :meth:`training_batches`.

        Yields:
            The batches; an ``index`` is the number of a sample among those held out.
        """
        assert self.parts.held_out_batches is not None
        for batch in self.parts.held_out_batches():
            yield self.read_batch(self._as_batch(batch, ("label",)))

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

    def read_batch(self, batch: Batch, epoch: int | None = None) -> Batch:
        """Prepare a batch of a pass over the data; see :meth:`prepare_batch`."""
        self.num_read += num_in_batch(batch)
        return self.prepare_batch(batch, epoch)

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
