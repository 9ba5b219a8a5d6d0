"""MLA as computed by the BalanceBenchmark toolkit (BalanceMM)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from mla_lightning.functional import balancemm_gradient, released_alpha
from mla_lightning.methods.head.projection import Projection
from mla_lightning.methods.mla import MLA
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition


class MLABalanceMM(MLA):
    """Alternating steps with the projected gradient of the head added to the raw one.

    The toolkit corrects the parameter name of the released code, so the code's formula is applied:
    element-wise division, Frobenius norm, the current modality's feature, an alpha that decreases
    within each epoch, and a very first step that is left alone. The toolkit then adds the projected
    gradient to the raw one instead of replacing it, so no component of the gradient is ever
    removed, and those that the projector keeps are doubled.

    Example:
        The identity keeps everything, so the gradient is doubled:

        >>> from functools import partial
        >>> import torch
        >>> method = MLABalanceMM(
        ...     encoders={"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ... )
        >>> method.modification.apply_projector(torch.ones(1, 4), method.projectors["shared"])
        tensor([[2., 2., 2., 2.]])
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
            df: Whether logits are weighted by each sample's entropy at test time.
            order: The modalities in the order of their steps; the data's order by default.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must have one shared head.
        """
        super().__init__(
            df=df, order=order, projection="released_formula", source="current", **parts
        )
        assert isinstance(self.modification, Projection)
        self.modification.apply_projector = balancemm_gradient

    def on_train_batch_start(self, batch: dict, batch_idx: int) -> None:  # type: ignore[override]
        """Set alpha to 0.1 ** (b / L + 1) in batch b, from 0, of the epoch's L batches."""
        super().on_train_batch_start(batch, batch_idx)  # type: ignore[arg-type]
        assert isinstance(self.modification, Projection)
        num_batches = int(self.trainer.num_training_batches)
        self.modification.alpha = released_alpha(batch_idx, num_batches)
