"""Late fusion: every modality is trained independently, logits are averaged at test time."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor
from torch.nn import Parameter

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.fusion import late
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition


class LateFusion(MultimodalModule):
    """Late Fusion: an independent loss per modality, mean of the logits at test time.

    MLA's released code has no late fusion. In the paper, the ablation row without gradient
    modification and without dynamic fusion equals the Late Fusion column, which fits this
    definition. ``trainer.clip_norm`` bounds the gradient of each modality, so that none changes
    another's training. With ``joint_weight`` the fused loss is added, as in the static late fusion
    of QMF's code, and one norm of all gradients is bounded.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from mla_lightning.batch import as_batch
        >>> method = LateFusion(
        ...     encoders={"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ... )
        >>> inputs = {"audio": torch.randn(6, 3), "visual": torch.randn(6, 5)}
        >>> logits = method.evaluate_batch(as_batch(inputs, method.modalities, needs=()))
        >>> torch.allclose(logits["multi"], (logits["audio"] + logits["visual"]) / 2, atol=1e-6)
        True
    """

    follows_task = True
    takes_ranks = True
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
            joint_weight: Weight of the loss on the fused logits, >= 0.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must combine logits, not
                features.

        Raises:
            ConfigError: If ``joint_weight`` is negative, or the fusion's layers for a single
                modality take several modalities at once.
        """
        if joint_weight < 0:
            raise ConfigError(f"method.joint_weight must be >= 0, got {joint_weight}")
        self.joint_weight = joint_weight
        super().__init__(**parts)
        if self.fusion.mixes_modalities:
            raise ConfigError(
                f"{type(self).__name__} trains each modality as if it were alone, and layers of "
                f"{type(self.fusion).__name__} take several at once. Use "
                "fusion@method.fusion=late, or method=joint_unimodal."
            )

    @property
    def trains_fused_logits(self) -> bool:  # type: ignore[override]
        """Return whether there is a loss on the fused logits."""
        return self.joint_weight > 0

    def clipped_groups(self) -> list[list[Parameter]]:
        """Return a group per modality, unless a loss on the fused logits connects them."""
        if self.joint_weight:
            return super().clipped_groups()
        heads = getattr(self.fusion, "heads", {})
        groups = [
            [*self.encoders[m].parameters(), *(heads[m].parameters() if m in heads else ())]
            for m in self.modalities
        ]
        grouped = {parameter for group in groups for parameter in group}
        shared = [parameter for parameter in self.parameters() if parameter not in grouped]
        return [*groups, shared] if shared else groups

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the sum of the modalities' losses."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            losses = self.parts.unimodal_losses(self.fusion.unimodal(features), chunk)
            if self.joint_weight:
                fused = self.fusion(features, self.parts.presence(chunk))
                losses["joint"] = self.joint_weight * self.parts.loss(fused, chunk)
            return losses

        return self.step_on(batch, losses_of)
