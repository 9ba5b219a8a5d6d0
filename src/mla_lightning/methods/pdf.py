"""PDF: predictive dynamic fusion, weighted by the predicted probability of the true class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

from torch import Tensor

from mla_lightning.batch import Batch, num_in_batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional import at_least_single
from mla_lightning.fusion.calibrated import Calibrated
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition


class PDF(MultimodalModule):
    """Logits weighted by what each modality predicts its probability of the true class to be.

    Loss: that of the task on the fused logits and on each modality's own logits, plus the mean
    distance of each modality's predicted probability of the true class from the actual one. Only
    the networks that predict it learn from that distance. See
    :class:`~mla_lightning.fusion.calibrated.Calibrated` for the weights.

    The released code is for two modalities; for more the same formulas are used here. It trains
    with Adam, with a weight decay of 1 on one layer of each of these networks. Here the optimiser's
    weight decay is that of all parameters.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from mla_lightning.fusion import Concat
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> [layer.out_features for layer in PDF(**parts).fusion.nets["audio"][::2]]
        [8, 4, 1]
        >>> PDF(fusion=Concat, **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: PDF predicts the probability of the true class, which
        fusion Concat does not. Use fusion@method.fusion=calibrated.
    """

    follows_task = True
    not_for: Mapping[str, str] = {
        "regression": "a number has no probability. Use method=late_fusion or method=mla",
        "multilabel": "a sample has no single true class. Use method=late_fusion or method=qmf",
    }
    takes_ranks = True
    default_fusion = Calibrated
    fusion: Calibrated
    reference = Reference(
        "Predictive Dynamic Fusion", "ICML", 2024, "https://arxiv.org/abs/2406.04802"
    )

    def __init__(self, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be the calibrated one.

        Raises:
            ConfigError: If it is another fusion.
        """
        super().__init__(**parts)
        if not isinstance(self.fusion, Calibrated):
            raise ConfigError(
                "PDF predicts the probability of the true class, which fusion "
                f"{type(self.fusion).__name__} does not. Use fusion@method.fusion=calibrated."
            )

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the fused and the unimodal losses and on the predicted probabilities."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            own_logits = self.fusion.unimodal(features)
            losses = self.parts.unimodal_losses(own_logits, chunk)
            fused = self.fusion(features, self.parts.presence(chunk))
            losses["joint"] = self.parts.loss(fused, chunk)
            predicted = self.fusion.predicted_probabilities(features)
            for name in [name for name in self.modalities if name in losses]:
                distance_B = (predicted[name] - self._true(own_logits[name], chunk)).abs()
                losses[f"tcp/{name}"] = self._mean_of_present(distance_B, name, chunk)
            return losses

        return self.step_on(batch, losses_of)

    def _true(self, own_logits: Tensor, chunk: Batch) -> Tensor:
        """Return the probability of the true class (B,), without graph."""
        return (
            -self.task.sample_losses(at_least_single(own_logits.detach()), chunk["label"])
        ).exp()

    def _mean_of_present(self, values_B: Tensor, name: str, chunk: Batch) -> Tensor:
        """Compute the mean over the batch's samples with a modality, as its chunks count."""
        if not len(values_B):
            return values_B.sum()
        has_in_batch = chunk.get("present_in_batch", chunk["present"])[name]
        of_present = (values_B * chunk["present"][name]).sum() / has_in_batch.sum()
        return of_present * (num_in_batch(chunk) / len(values_B))
