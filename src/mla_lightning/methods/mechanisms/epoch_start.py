"""A pass over the training split at the start of an epoch."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from mla_lightning.methods.mechanisms.modes import evaluation_mode
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition


class EpochStart(MultimodalModule):
    """Base of rules that compute something at the start of each epoch, before its first batch.

    :meth:`prepare_epoch` runs in evaluation mode, without graph and in full precision. What it
    computes is kept in buffers. So is the epoch that it was computed for: a run that is resumed
    within an epoch goes on with what was computed at the epoch's start. A new training that begins
    with the weights of another one prepares all of its epochs. The time counts as that of
    training. Random numbers come from generators of its own, seeded by
    :func:`~mla_lightning.randomness.derive_seed`.

    Example:
        A rule that stores the mean of each modality's features over the training split:

        >>> class Means(EpochStart):
        ...     needs_train_batches = True
        ...
        ...     def prepare_epoch(self):
        ...         sums, number = {m: 0.0 for m in self.modalities}, 0
        ...         for batch in self.training_batches():
        ...             number += len(batch["label"])
        ...             for name, h in self.features(batch).items():
        ...                 sums[name] = sums[name] + h.sum(dim=0)
        ...         self.means = {name: total / number for name, total in sums.items()}
    """

    def __init__(self, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            **parts: See :class:`~mla_lightning.parts.Parts`.
        """
        super().__init__(**parts)
        #: The epoch that was prepared last; -1 for none.
        self.prepared_epoch: Tensor
        self.register_buffer("prepared_epoch", torch.tensor(-1))

    def prepare_epoch(self) -> None:
        """Compute what the epoch needs, and store it in buffers."""
        raise NotImplementedError(f"{type(self).__name__} does not define prepare_epoch")

    def on_train_epoch_start(self) -> None:
        """Prepare the epoch, unless that was done before an interruption."""
        super().on_train_epoch_start()
        if self.trainer.global_step == 0:  # whatever training the weights come from
            self.prepared_epoch.fill_(-1)
        if int(self.prepared_epoch) == self.current_epoch:
            return
        with evaluation_mode(self) as self._modes, self.full_precision(), self.pass_observer():
            self.prepare_epoch()
        self.prepared_epoch.fill_(self.current_epoch)

    def train_as_before(self) -> None:
        """Set the modes that the modules had before :meth:`prepare_epoch`, which may use it."""
        for module, is_training in self._modes.items():
            module.training = is_training
