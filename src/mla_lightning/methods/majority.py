"""Majority: the best constant prediction for every sample, the lowest reference."""

from __future__ import annotations

from collections.abc import Mapping
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
    """The best constant prediction, which uses no input: the most frequent class of train.

    The logits of every sample are the logarithm of each class's share of the training samples; of
    several equally frequent classes the first is predicted. Regression: the median of train, which
    has the smallest mean absolute error. Several labels: those that more than half of the training
    samples have. A method that is not better than this row has learnt nothing from the inputs.

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
        >>> method.fit_labels(torch.tensor([0, 1, 1, 1]))
        >>> method.fusion({"audio": torch.zeros(1, 1)}).exp().detach()
        tensor([[0.2500, 0.7500]])
    """

    fusion: LateFusion
    fits_all_at_once = True
    takes_steps = False
    follows_task = True
    not_for: Mapping[str, str] = {"class_weights": "it predicts what is most frequent"}
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
        """Read the labels of the training samples, once."""
        self.fit_labels(torch.cat([batch["label"] for batch in self.training_batches()]))
        self.trainer.should_stop = True

    @torch.no_grad()
    def fit_labels(self, label: Tensor) -> None:
        """Set the logits of every sample.

        Args:
            label: Labels (N,), or (N, L) of several labels, of the training samples.
        """
        logits = self.task.constant_logits(label, self.parts.num_classes)
        for head in self.fusion.heads.values():
            assert isinstance(head, nn.Linear)
            head.weight.zero_()
            head.bias.copy_(logits)


class _Constant(Encoder):
    """A feature of width 1 that is always 0."""

    out_features = 1

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros (B, 1)."""
        return torch.zeros(x.shape[0], 1, device=x.device)
