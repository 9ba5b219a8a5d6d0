"""Diagnosing & Re-learning: encoders that memorise are pulled back to their initial weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack

import torch
from torch import Tensor

from mla_lightning import ranks
from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional import k_means, purity, relearning_weights, scale_columns
from mla_lightning.fusion.concat import Concat
from mla_lightning.methods.joint import Joint
from mla_lightning.methods.mechanisms.encoder_gradients import (
    encoders_with_adapters,
    own_parameters,
)
from mla_lightning.methods.mechanisms.epoch_start import EpochStart
from mla_lightning.methods.mechanisms.snapshots import Snapshot
from mla_lightning.methods.mechanisms.window import share_of_epochs
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition
from mla_lightning.randomness import derive_seed

#: Epochs between two diagnoses, and all epochs, of the released code.
PUBLISHED = (20, 50)


class Relearning(Joint, EpochStart):
    """Joint training in which each encoder is pulled back by how much it has memorised.

    After every ``every`` epochs (by default the share of the training that 20 of 50 are, as in the
    released code), at most ``times`` times, the features of each modality are divided
    into as many clusters as there are classes, once those of the training samples and once those
    of held-out ones, each column scaled to the range from -1 to 1. The purity of clusters is the
    fraction of samples with the most frequent class of their cluster. An encoder whose features are
    purer on the samples that it was trained on has memorised them: with the gap of the two
    purities, its parameters become ``w * initial + (1 - w) * present``, ``w = tanh(strength *
    gap)``; so do those of its adapter, if a shared head has one. Heads, the optimiser's state and
    the running statistics of batch normalisation stay. A modality that fewer samples have than
    there are classes stays as it is. Features are those of the encoders, before an adapter.

    The released code clusters by the features of the validation split, and those of augmented
    training samples; here a part of the training split is held out, and nothing is augmented.
    There, the first time is after one epoch more.

    Example:
        >>> from functools import partial
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ...     "train_batches": list,
        ... }
        >>> method = Relearning(held_out_batches=list, **parts)
        >>> [weight.shape for weight in method.initial.weights("audio")]
        [torch.Size([4, 3]), torch.Size([4])]
        >>> Relearning(strength=0.0, held_out_batches=list, **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.strength must be > 0, got 0.0; with 0 this is
        method=concat
    """

    takes_ranks = True
    needs_train_batches = True
    needs_held_out = True
    default_fusion = Concat
    reference = Reference(
        "Diagnosing and Re-learning for Balanced Multimodal Learning",
        "ECCV",
        2024,
        "https://arxiv.org/abs/2407.09705",
    )
    not_for = {
        "regression": "the purity of clusters is that of classes. Use method=joint_unimodal",
        "multilabel": "the purity of clusters is that of classes, of which a sample has one. Use "
        "method=joint_unimodal",
    }

    def __init__(
        self,
        *,
        every: int | None = None,
        times: int = 3,
        strength: float = 3.0,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            every: Number of epochs between two diagnoses, >= 1; None for two fifths of all,
                rounded up.
            times: Largest number of diagnoses, >= 1.
            strength: How strongly a gap pulls an encoder back, > 0.
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If a value is out of range, or encoders share parameters or are all frozen.
        """
        for key, number in (("every", every), ("times", times)):
            if number is not None and number < 1:
                raise ConfigError(f"method.{key} must be at least 1, got {number}")
        if not strength > 0:
            raise ConfigError(
                f"method.strength must be > 0, got {strength}; with 0 this is method=concat"
            )
        super().__init__(**parts)
        self.every, self.times, self.strength = every, times, strength
        encoders = encoders_with_adapters(self.encoders, self.fusion)
        self.initial = Snapshot(own_parameters(encoders, otherwise="method=concat"))

    def interval_of(self, num_epochs: int) -> int:
        """Return the number of epochs between two diagnoses.

        Args:
            num_epochs: All epochs of the run.
        """
        if self.every is None:
            return share_of_epochs("every", num_epochs, *PUBLISHED)
        return self.every

    def on_train_start(self) -> None:
        """Check that there is a diagnosis."""
        num_epochs = self.trainer.max_epochs or 0
        if (interval := self.interval_of(num_epochs)) >= num_epochs:
            raise ConfigError(
                f"method.every={interval}: the first diagnosis is after that many epochs, and "
                f"trainer.max_epochs={num_epochs}, so this would be joint training. Use a smaller "
                "one."
            )

    def prepare_epoch(self) -> None:
        """Pull the encoders back, if a diagnosis is due; on several ranks by that of the first.

        Ranks compute the same features but for their last bits, which can change a cluster.
        """
        if int(self.prepared_epoch) < 0:
            self.initial.take()  # those of this training, whatever training they come from
        interval = self.interval_of(self.trainer.max_epochs or 0)
        number, rest = divmod(self.current_epoch, interval)
        if rest or not 1 <= number <= self.times:
            return
        train, held_out = (
            self._purities(batches, part)
            for part, batches in (
                ("train", self.training_batches()),
                ("held out", self.held_out_batches()),
            )
        )
        weights = relearning_weights((train - held_out).abs(), self.strength)
        weights = ranks.stacked(weights)[0]
        for name, weight in zip(self.modalities, weights, strict=True):
            if not weight.isnan():
                self.initial.pull(name, weight)

    def _purities(self, batches: Iterable[Batch], part: str) -> Tensor:
        """Return the purity of each modality's clusters (M,); NaN with fewer samples than classes.

        Args:
            batches: The samples.
            part: Their name, for the seed.
        """
        features: dict[str, list[Tensor]] = {name: [] for name in self.modalities}
        labels: dict[str, list[Tensor]] = {name: [] for name in self.modalities}
        for batch in batches:
            for name, h in self.pooled_features(batch).items():
                has = batch["present"][name]
                features[name].append(h[has].cpu())
                labels[name].append(batch["label"][has].cpu())
        num_clusters, purities = self.parts.num_classes, []
        for name in self.modalities:
            x, label = torch.cat(features[name]), torch.cat(labels[name])
            if len(x) < num_clusters:
                purities.append(torch.tensor(torch.nan, dtype=torch.float64))
                continue
            seed = derive_seed(self.parts.seed, "relearning", self.current_epoch, name, part)
            purities.append(purity(label, k_means(scale_columns(x), num_clusters, seed)))
        return torch.stack(purities)
