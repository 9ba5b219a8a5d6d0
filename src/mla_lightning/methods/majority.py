"""Majority: the most frequent class for every sample, the lowest reference."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from mla_lightning.batch import Batch
from mla_lightning.encoders.base import Encoder
from mla_lightning.errors import ConfigError
from mla_lightning.fusion.late import LateFusion
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition


class Majority(MultimodalModule):
    """The logarithm of each class's share of the training samples as the logits of every sample.

    Every prediction is the most frequent class of train, the first of several. A method whose
    accuracy is not above this row's has learnt nothing from the inputs, which are not used.

    There are no optimisation steps: one epoch is run regardless of trainer.max_epochs, and
    optimiser and scheduler have no effect. They are accepted so that all methods of a comparison
    can share one recipe; a schedule that a command sets for this method is refused.

    Example:
        >>> from functools import partial
        >>> method = Majority(
        ...     encoders={"audio": torch.nn.Linear(3, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ...     train_batches=lambda: [],
        ... )
        >>> method.fit_classes(torch.tensor([0, 1, 1, 1]))
        >>> method.fusion({"audio": torch.zeros(1, 1)}).exp().detach()
        tensor([[0.2500, 0.7500]])
    """

    fusion: LateFusion
    fits_all_at_once = True
    takes_steps = False
    min_modalities = 1
    default_fusion = LateFusion

    def __init__(self, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be the late one. The
                encoders and the scheduler are not used.

        Raises:
            ConfigError: If the fusion has a weighting, which would have no effect.
        """
        encoders = {name: _Constant() for name in parts["encoders"]}
        super().__init__(**parts | {"encoders": encoders, "scheduler": None})
        if getattr(self.fusion, "weighting", "") != "mean":
            raise ConfigError("method.fusion.weighting has no effect on Majority. Leave it out.")

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Return no losses: all samples are counted at once, before validation."""
        return {}

    def on_validation_start(self) -> None:
        """Count the classes of the training samples, once."""
        self.fit_classes(torch.cat([batch["label"] for batch in self.training_batches()]))
        self.trainer.should_stop = True

    @torch.no_grad()
    def fit_classes(self, label: Tensor) -> None:
        """Set the logits of every sample.

        Args:
            label: Classes (N,) of the training samples, with at least one of each.
        """
        counts = torch.bincount(label, minlength=self.parts.num_classes).double()
        for head in self.fusion.heads.values():
            assert isinstance(head, nn.Linear)
            head.weight.zero_()
            head.bias.copy_((counts / counts.sum()).log())


class _Constant(Encoder):
    """A feature of width 1 that is always 0."""

    out_features = 1

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros (B, 1)."""
        return torch.zeros(len(x), 1, device=x.device)
