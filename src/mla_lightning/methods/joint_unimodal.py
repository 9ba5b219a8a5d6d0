"""Joint training with an additional loss on each modality's own logits."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.fusion.concat import Concat
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition


class JointUnimodal(MultimodalModule):
    """The task's loss on the fused logits, plus one on each modality's own logits.

    The own logits are the fusion's (for ``concat``: slices of the joint head), so there are no more
    parameters than in joint training. Every encoder has an error signal of its own.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from mla_lightning.batch import as_batch
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> method = JointUnimodal(**parts)
        >>> inputs = {"audio": torch.randn(6, 3), "visual": torch.randn(6, 5)}
        >>> logits = method.evaluate_batch(as_batch(inputs, method.modalities, needs=()))
        >>> torch.allclose(logits["multi"], logits["audio"] + logits["visual"], atol=1e-6)  # slices
        True
        >>> JointUnimodal(unimodal_weight=0.0, **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.unimodal_weight must be > 0, got 0.0; without
        unimodal losses this is method=concat
    """

    follows_task = True
    takes_ranks = True
    default_fusion = Concat
    reference = Reference(
        "What Makes Training Multi-Modal Classification Networks Hard? (multi-task baseline)",
        "CVPR",
        2020,
        "https://arxiv.org/abs/1905.12681",
    )

    def __init__(self, *, unimodal_weight: float = 1.0, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            unimodal_weight: Weight of each modality's own cross-entropy, > 0.
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If ``unimodal_weight`` is not positive.
        """
        if unimodal_weight <= 0:
            raise ConfigError(
                f"method.unimodal_weight must be > 0, got {unimodal_weight}; without unimodal "
                "losses this is method=concat"
            )
        super().__init__(**parts)
        self.unimodal_weight = unimodal_weight

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the joint and the unimodal losses."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            fused = self.fusion(features, self.parts.presence(chunk))
            unimodal = self.parts.unimodal_losses(self.fusion.unimodal(features), chunk)
            weighted = {name: self.unimodal_weight * loss for name, loss in unimodal.items()}
            return {"joint": self.parts.loss(fused, chunk), **weighted}

        return self.step_on(batch, losses_of)
