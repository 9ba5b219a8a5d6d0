"""The part of every method that turns batches into features: encoders, inputs, composition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Unpack

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from mla_lightning.batch import Batch, as_batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional.sequences import mean_of_present_steps
from mla_lightning.fusion.base import Fusion
from mla_lightning.fusion.concat import Concat
from mla_lightning.inputs.base import BatchRandomness
from mla_lightning.parts import Composition, Parts, check_composition


class EncodingModule(LightningModule):
    """Encoders and a fusion, and what a batch becomes on its way to them.

    What a class says of its training rule are class attributes; what an instance is composed of are
    arguments.
    """

    fusion: Fusion
    #: The fusion where none is given.
    default_fusion: Callable[..., Fusion] = Concat
    #: Fewest modalities that the training rule makes sense for.
    min_modalities = 2
    #: Whether it remembers something of every training sample, by its ``index``.
    needs_num_train = False
    #: Whether there is a rule for training samples that lack a modality.
    takes_incomplete = True
    #: Whether training batches must hold what was hidden.
    needs_hidden_inputs = False
    #: Whether a batch may be trained on in chunks (``trainer.accumulate``) with the same gradient.
    takes_chunks = True
    #: Whether all training samples are fitted at once, as they are at the start.
    fits_all_at_once = False
    #: Epochs, from the first, that do not depend on what is hidden: runs may share them.
    shared_epochs = 0

    def __init__(self, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            **parts: ``encoders``, ``num_classes``, ``optimizer`` and others; see
                :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: As :func:`~mla_lightning.parts.check_composition` says.
        """
        super().__init__()
        self.parts = Parts(**{"fusion": type(self).default_fusion} | parts)
        self.modalities = tuple(self.parts.encoders)
        check_composition(self, self.parts)
        self.encoders = nn.ModuleDict(self.parts.encoders)
        self.fusion = self.parts.build_fusion()

    @property
    def num_train(self) -> int:
        """Number of training samples N, of methods that need it."""
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
        if len(modalities) < cls.min_modalities:
            raise ConfigError(
                f"{cls.__name__} needs at least {cls.min_modalities} modalities, got "
                f"{list(modalities)}. Use method=unimodal to train one modality alone."
            )

    # ------------------------------------------------------------------ features

    def features(self, batch: Batch) -> dict[str, Tensor]:
        """Encode every modality.

        Args:
            batch: A batch or a chunk of one.

        Returns:
            Modality -> feature (B, D_m).
        """
        if self.parts.is_complete:
            return {name: encoder(batch["inputs"][name]) for name, encoder in self.encoders.items()}
        return {name: self.encode(name, batch) for name in self.modalities}

    def pooled_features(self, batch: Batch) -> dict[str, Tensor]:
        """Encode every modality, sequences averaged over their steps: modality -> (B, D_m)."""
        found = self.features(batch).items()
        return {name: h if h.ndim == 2 else mean_of_present_steps(h) for name, h in found}

    def encode(self, name: str, batch: Batch) -> Tensor:
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

    def training_batches(self) -> Iterator[Batch]:
        """Go through the training split in its own order, not augmented, on the device."""
        assert self.parts.train_batches is not None
        for batch in self.parts.train_batches():
            yield self.prepare_batch(batch)

    # ------------------------------------------------------------------ batches

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Take a plain dict of tensors for a batch; see :func:`~mla_lightning.batch.as_batch`."""
        needs = ("label", "index") if self.needs_num_train and self.trainer.training else ()
        return as_batch(batch, self.modalities, needs=needs)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Make what encoders take of the batch's rows, on the device; at random in training."""
        return self.convert_inputs(batch, draw=self.trainer.training)

    def prepare_batch(self, batch: Batch) -> Batch:
        """Make of a loader's batch what the trainer would: precision, device, inputs; not drawn."""
        given = self.trainer.precision_plugin.convert_input(batch)
        return self.convert_inputs(self.transfer_batch_to_device(given, self.device, 0), draw=False)

    def convert_inputs(self, batch: Batch, *, draw: bool) -> Batch:
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
                randomness = None
                if draw:
                    randomness = BatchRandomness(
                        self.parts.seed, self.current_epoch, name, batch["index"]
                    )
                values[name] = convert(values[name], randomness)
            found[part] = values
        for name, hidden in batch.get("hidden", {}).items():  # zeros as encoders take them
            x = found["inputs"][name]
            found["inputs"][name] = x.masked_fill(hidden.view(-1, *[1] * (x.ndim - 1)), 0)
        return found
