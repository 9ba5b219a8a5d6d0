"""Joint training: one loss on the fused logits."""

from __future__ import annotations

from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.fusion.concat import Concat
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule


class Joint(MultimodalModule):
    """Joint training: one loss on the fused logits trains everything.

    With the fusions ``sum``, ``concat``, ``film`` and ``bigated`` this is the baseline of that
    name. One loss for all modalities is what leaves the encoder of the slower modality
    under-trained.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from mla_lightning.batch import as_batch
        >>> from mla_lightning.fusion import Sum
        >>> method = Joint(
        ...     encoders={"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ...     fusion=Sum,
        ... )
        >>> inputs = {"audio": torch.randn(6, 3), "visual": torch.randn(6, 5)}
        >>> logits = method.evaluate_batch(as_batch(inputs, method.modalities, needs=()))
        >>> torch.allclose(logits["multi"], logits["audio"] + logits["visual"], atol=1e-6)
        True
    """

    follows_task = True
    takes_ranks = True
    default_fusion = Concat
    reference = Reference(
        "Balanced Multimodal Learning via On-the-fly Gradient Modulation (its joint baselines)",
        "CVPR",
        2022,
        "https://arxiv.org/abs/2203.15332",
    )

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the loss of the fused logits."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            fused = self.fusion(self.features(chunk), self.parts.presence(chunk))
            return {"joint": self.parts.loss(fused, chunk)}

        return self.step_on(batch, losses_of)
