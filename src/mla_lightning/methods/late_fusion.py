"""Late fusion: every modality learns on its own; logits meet at test time."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor
from torch.nn.functional import cross_entropy

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.fusion import late
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition


class LateFusion(MultimodalModule):
    """Independent cross-entropy per modality, each with its own head; mean of logits at test.

    MLA's released code has no late fusion. Its ablation row without gradient modification and
    without dynamic fusion equals its Late Fusion column, which fits this definition. With
    ``joint_weight`` the fused loss is added, as the static late fusion in QMF's code does.
    """

    default_fusion = late.LateFusion
    reference = Reference(
        "Multimodal Machine Learning: A Survey and Taxonomy (decision-level fusion)",
        "TPAMI",
        2019,
        "https://arxiv.org/abs/1705.09406",
    )

    def __init__(self, *, joint_weight: float = 0.0, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            joint_weight: Weight of the cross-entropy on the fused logits, >= 0.
            **parts: As :class:`~mla_lightning.parts.Composition` names them; the fusion
                must join logits, not features.

        Raises:
            ConfigError: If ``joint_weight`` is negative.
        """
        if joint_weight < 0:
            raise ConfigError(f"method.joint_weight must be >= 0, got {joint_weight}")
        super().__init__(**parts)
        self.joint_weight = joint_weight

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the sum of the modalities' losses."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            losses = self.parts.unimodal_losses(self.fusion.unimodal(features), chunk)
            if self.joint_weight:
                fused = self.fusion(features, self.parts.presence(chunk))
                losses["joint"] = self.joint_weight * cross_entropy(fused, chunk["label"])
            return losses

        return self.step_on(batch, losses_of)
