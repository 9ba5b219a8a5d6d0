"""Late fusion: one head per modality, logits or probabilities averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mla_lightning.errors import ConfigError
from mla_lightning.functional import fuse_probabilities
from mla_lightning.fusion.base import LogitFusion, Present, linear

if TYPE_CHECKING:
    from mla_lightning.tasks import Task


class LateFusion(LogitFusion):
    r"""Weighted sum of the logits of one head per modality.

    :math:`z = \sum_m \lambda_m (W_m h_m + b_m)`. ``weighting`` gives the :math:`\lambda_m`, equal
    ones by default; ``mean_probability`` averages probabilities instead and returns their
    logarithm.

    Single modality, ``own_head``: its own head.

    Example:
        >>> features = {"audio": torch.randn(5, 2), "visual": torch.randn(5, 3)}
        >>> dims = {"audio": 2, "visual": 3}
        >>> fusion = LateFusion(dims, num_classes=4)
        >>> logits = torch.stack(list(fusion.unimodal(features).values()))
        >>> torch.allclose(fusion(features), logits.mean(dim=0), atol=1e-6)
        True
        >>> fusion = LateFusion(dims, num_classes=4, weighting="mean_probability")
        >>> logits = torch.stack(list(fusion.unimodal(features).values()))
        >>> mean_probability = logits.softmax(dim=-1).mean(dim=0)
        >>> torch.allclose(fusion(features).exp(), mean_probability, atol=1e-6)
        True
    """

    unimodal_rule = "own_head"

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        weighting: str | Sequence[float] = "mean",
    ) -> None:
        """Build one head per modality.

        Args:
            feature_dims: Modality -> width of its feature.
            num_classes: Number of classes C.
            weighting: ``mean``, ``entropy``, ``batch_entropy``, ``mean_probability``, or one
                weight per modality.

        Raises:
            ConfigError: If the rule is unknown or the number of weights is wrong.
        """
        self.averages_probabilities = weighting == "mean_probability"
        super().__init__(
            feature_dims,
            num_classes,
            weighting="mean" if self.averages_probabilities else weighting,
        )
        self.heads = nn.ModuleDict({m: linear(d, num_classes) for m, d in feature_dims.items()})

    def follow(self, task: Task) -> None:
        """Compute entropies as a task defines them; see :meth:`Fusion.follow`."""
        super().follow(task)
        if self.averages_probabilities and not task.has_classes:
            raise ConfigError(
                f"weighting=mean_probability is not defined for {task.name}: it averages the "
                "probabilities of classes. Use weighting=mean."
            )

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the fused logits of the present modalities."""
        if not self.averages_probabilities:
            return super().forward(features, present)
        own_logits = self.unimodal(self.zero_absent(features, present))
        logits_MBC = torch.stack([own_logits[name] for name in self.feature_dims])
        return fuse_probabilities(self.weights(logits_MBC, present), logits_MBC)

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the logits of each head."""
        return {name: head(features[name]) for name, head in self.heads.items()}
