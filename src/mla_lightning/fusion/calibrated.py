"""Calibrated fusion: logits weighted by the predicted probability of the true class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mla_lightning.errors import ConfigError, check_choice
from mla_lightning.functional import (
    at_least_single,
    belief_weights,
    distribution_uniformity,
    fuse_logits,
    relative_calibration,
)
from mla_lightning.fusion.base import Present
from mla_lightning.fusion.sum import Sum

if TYPE_CHECKING:
    from mla_lightning.tasks import Task


class Calibrated(Sum):
    r"""Sum of the logits of one head per modality, weighted by their collaborative belief.

    A small network per modality predicts :math:`t_m`, the probability of the true class, from the
    detached feature. The weights are a softmax over the modalities of
    :math:`t_m + \mathrm{holo}_m`, see :func:`~mla_lightning.functional.belief.holo_confidence`,
    and get no gradient. In evaluation these are multiplied by how far each modality's prediction is
    from a uniform one, relative to the others
    (:func:`~mla_lightning.functional.belief.relative_calibration`). Absent modalities are left out
    of all sums. PDF (ICML 2024) calibrates on test data only; its code validates during training
    without. Here validation is calibrated, too, so the epoch is selected by what is reported.

    Single modality, ``own_head``: its own head.

    Example:
        >>> fusion = Calibrated({"audio": 2, "visual": 3}, num_classes=4)
        >>> features = {"audio": torch.randn(5, 2), "visual": torch.randn(5, 3)}
        >>> torch.allclose(fusion.weights_of(features).sum(dim=0), torch.ones(5))
        True
        >>> trained = fusion(features)
        >>> torch.equal(fusion.eval()(features), trained)  # calibrated
        False

        Without calibration, networks that do not tell modalities apart give the mean of the logits:

        >>> fusion = Calibrated({"audio": 2, "visual": 3}, num_classes=4, calibration="none")
        >>> _ = [parameter.data.zero_() for parameter in fusion.nets.parameters()]
        >>> mean = torch.stack([*fusion.unimodal(features).values()]).mean(dim=0)
        >>> torch.allclose(fusion(features), mean, atol=1e-6)
        True
    """

    weighs_by_features = True

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        calibration: str = "test",
        hidden_activation: str = "none",
    ) -> None:
        """Build one head and one network per modality.

        Args:
            feature_dims: Modality -> width of its feature.
            num_classes: Number of classes C, >= 2.
            calibration: ``test``, in evaluation, or ``none``.
            hidden_activation: ``none``, as in the released code, where the three layers of a
                network are one linear map; or ``relu`` between them.

        Raises:
            ConfigError: If an option is unknown or there is one class.
        """
        for option, value, known in (
            ("calibration", calibration, ("test", "none")),
            ("hidden_activation", hidden_activation, ("none", "relu")),
        ):
            check_choice(f"fusion {option}", value, known)
        if num_classes < 2:
            raise ConfigError(
                f"fusion=calibrated needs at least two classes, got {num_classes}: the probability "
                "of the only one is 1. Use fusion=late."
            )
        super().__init__(feature_dims, num_classes)
        self.calibration = calibration
        activation = nn.ReLU if hidden_activation == "relu" else nn.Identity
        self.nets = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(width, 2 * width),
                    activation(),
                    nn.Linear(2 * width, width),
                    activation(),
                    nn.Linear(width, 1),
                )
                for name, width in feature_dims.items()
            }
        )

    def follow(self, task: Task) -> None:
        """Check that the task has classes; see :meth:`Fusion.follow`."""
        super().follow(task)
        if not task.has_classes:
            raise ConfigError(
                f"fusion=calibrated is not for {task.name}: its samples have no true class. "
                "Use fusion=late."
            )

    def predicted_probabilities(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predict each modality's probability of the true class, without gradient to the encoder.

        Args:
            features: Modality -> feature (B, D_m).

        Returns:
            Modality -> probabilities t (B,).
        """
        return {
            name: at_least_single(net(features[name].detach())).sigmoid()[:, 0]
            for name, net in self.nets.items()
        }

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the weighted sum of the logits of the present modalities."""
        features = self.zero_absent(features, present)
        own_logits = self.unimodal(features)
        weights_MB = self._weights(features, own_logits, present)
        return fuse_logits(weights_MB, torch.stack([*own_logits.values()]))

    def weights_of(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the weights of the modalities, calibrated in evaluation."""
        features = self.zero_absent(features, present)
        return self._weights(features, self.unimodal(features), present)

    @torch.no_grad()
    def _weights(
        self, features: Mapping[str, Tensor], own_logits: Mapping[str, Tensor], present: Present
    ) -> Tensor:
        tcp_MB = torch.stack([*self.predicted_probabilities(features).values()])
        present_MB = (
            None if present is None else torch.stack([present[m] for m in self.feature_dims])
        )
        calibration_MB = None
        if self.calibration == "test" and not self.training:
            uniformity_MB = distribution_uniformity(torch.stack([*own_logits.values()]))
            calibration_MB = relative_calibration(uniformity_MB, present_MB)
        return belief_weights(tcp_MB, present_MB, calibration_MB)
