"""Joint training: one loss on the fused logits."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from mla_lightning.batch import Batch
from mla_lightning.fusion.concat import Concat
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule


class Joint(MultimodalModule):
    """One cross-entropy on the fused logits trains everything together.

    With the fusions ``sum``, ``concat``, ``film`` and ``bigated`` this is the baseline of that
    name. It is the rule that leaves the slower modality's encoder behind.
    """

    default_fusion = Concat
    reference = Reference(
        "Balanced Multimodal Learning via On-the-fly Gradient Modulation (its joint baselines)",
        "CVPR",
        2022,
        "https://arxiv.org/abs/2203.15332",
    )

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the fused loss."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            fused = self.fusion(self.features(chunk), self.parts.presence(chunk))
            return {"joint": cross_entropy(fused, chunk["label"])}

        return self.step_on(batch, losses_of)
