"""Remix: each sample is trained with the modality that is least certain about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import torch
from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError, near
from mla_lightning.functional import prediction_certainty
from mla_lightning.fusion.concat_heads import ConcatHeads
from mla_lightning.methods.mechanisms.planned_rows import PlannedRows
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition

#: How batches of one modality follow each other.
ORDERS = ("blocks", "mixed")


class Remix(PlannedRows):
    """Data remixing: samples with their least certain modality alone, in batches of one modality.

    In the warm-up, the losses are the task's on the fused logits and half of it on each modality's
    own logits. At the start of each later epoch, the certainty of a modality about a sample is the
    divergence of its own prediction from the uniform distribution, without augmentation. Each
    sample is then used once, with the modality of the smallest certainty alone (the last one of
    equal ones, as in the released code), in batches of one modality; only a row that would be alone
    in its batch joins another one. The losses are the task's on the fused logits, with zeros for
    the features that are left out, and ``gamma`` times that on the modality's own logits.

    After the warm-up the joint head never sees two modalities of a sample together, and validation
    fuses all of them. The paper has two modalities; the minimum over more is this package's
    generalisation.

    Example:
        >>> from functools import partial
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.Adam, lr=5e-5),
        ...     "num_train": 6,
        ...     "train_batches": list,
        ... }
        >>> method = Remix(**parts)
        >>> method.counts[0]  # in the warm-up every sample occurs once, whole
        tensor([1, 0, 0], dtype=torch.uint8)
        >>> Remix(order="block", **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.order='block' is unknown. Did you mean 'blocks'?
        Known: blocks, mixed
    """

    follows_task = True
    takes_ranks = True
    published_warmup = (10, 60)
    default_fusion = ConcatHeads
    reference = Reference(
        "Improving Multimodal Learning Balance and Sufficiency through Data Remixing",
        "ICML",
        2025,
        "https://arxiv.org/abs/2506.11550",
    )
    not_for: Mapping[str, str] = {
        "regression": "one number has no certainty. Use method=joint_unimodal",
        "multilabel": "certainty is that of one class among several. Use method=joint_unimodal",
    }

    def __init__(
        self,
        *,
        warmup_epochs: int | None = None,
        gamma: float = 1.0,
        order: str = "blocks",
        masked_encoders: str = "skip",
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            warmup_epochs: Number of first epochs on whole samples, fewer than all; None for a
                sixth of all, rounded up, as in the released code.
            gamma: Weight of the loss on a modality's own logits after the warm-up, >= 0.
            order: ``blocks``: an epoch has all batches of the last modality first, then those of
                the one before, and so on. ``mixed``: the same batches in random order.
            masked_encoders: ``skip``: an encoder gets only rows of its modality. ``run``: it gets
                all rows, so that its batch statistics depend on all.
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If a value is out of range, or modalities have no heads of their own.
        """
        if gamma < 0:
            raise ConfigError(f"method.gamma must be >= 0, got {gamma}")
        if order not in ORDERS:
            raise ConfigError(
                f"method.order={order!r} is unknown.{near(order, ORDERS)} "
                f"Known: {', '.join(ORDERS)}"
            )
        super().__init__(warmup_epochs=warmup_epochs, masked_encoders=masked_encoders, **parts)
        if self.fusion.unimodal_rule != "own_head":
            raise ConfigError(
                f"Remix needs a head of its own for each modality, and fusion "
                f"{type(self.fusion).__name__} has unimodal_rule={self.fusion.unimodal_rule}. Use "
                "fusion@method.fusion=concat_heads."
            )
        self.gamma, self.row_order = gamma, order

    def count_rows(self) -> Tensor:
        """Assign each training sample to the modality that is least certain about it."""
        counts = torch.zeros_like(self.counts)
        for batch in self.training_batches():
            own_logits = self.fusion.unimodal(self.features(batch))
            certainty_MB = torch.stack([prediction_certainty(z) for z in own_logits.values()])
            is_smallest_MB = certainty_MB == certainty_MB.amin(dim=0)
            last = len(self.modalities) - is_smallest_MB.flip(0).int().argmax(dim=0)
            counts[batch["index"], last] = 1  # column 0 is that of whole samples
        return counts

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the fused and the present modalities' losses."""
        weight = 0.5 if self.is_warmup else self.gamma

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            fused = self.fusion(features, self.parts.presence(chunk))
            unimodal = self.parts.unimodal_losses(self.fusion.unimodal(features), chunk)
            weighted = {name: weight * loss for name, loss in unimodal.items()}
            return {"joint": self.parts.loss(fused, chunk), **weighted}

        return self.step_on(batch, losses_of)
