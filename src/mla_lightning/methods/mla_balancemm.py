"""MLA as the BalanceBenchmark toolkit computes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from mla_lightning.functional import balancemm_gradient, released_alpha
from mla_lightning.methods.head.projection import Projection
from mla_lightning.methods.mla import MLA
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition


class MLABalanceMM(MLA):
    """Alternating steps whose head gradient gets its own projection added.

    The toolkit corrects the parameter name of the released code, so its formula runs: element-wise
    division, Frobenius norm, the current modality's feature, an alpha that falls within each epoch.
    It then adds the projected gradient to the raw one instead of replacing it, so no component of
    the gradient is ever removed, and those that the projector keeps are doubled.
    """

    reference = Reference(
        "BalanceBenchmark: A Survey for Multimodal Imbalance Learning",
        "arXiv",
        2025,
        "https://arxiv.org/abs/2502.10816",
    )

    def __init__(
        self, *, df: bool = True, order: Sequence[str] | None = None, **parts: Unpack[Composition]
    ) -> None:
        """Build the module.

        Args:
            df: Weight logits by each sample's entropy at test time.
            order: The modalities in the order of their steps; the data's order by default.
            **parts: As :class:`~mla_lightning.parts.Composition` names them; the fusion
                must have one shared head.
        """
        super().__init__(
            df=df, order=order, projection="released_formula", source="current", **parts
        )
        assert isinstance(self.modification, Projection)
        self.modification.apply_projector = balancemm_gradient

    def on_train_batch_start(self, batch: dict, batch_idx: int) -> None:  # type: ignore[override]
        """Set the ridge term, which falls within each epoch: 0.1 ** (b / L + 1)."""
        super().on_train_batch_start(batch, batch_idx)  # type: ignore[arg-type]
        assert isinstance(self.modification, Projection)
        num_batches = int(self.trainer.num_training_batches)
        self.modification.alpha = released_alpha(batch_idx, num_batches)
