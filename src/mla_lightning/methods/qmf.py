"""QMF: quality-aware multimodal fusion by energy confidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import torch
from torch import Tensor

from mla_lightning import ranks
from mla_lightning.batch import Batch, num_in_batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional import (
    confidence_rank_loss,
    normalise_history,
)
from mla_lightning.fusion.energy import EnergyFusion
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition


class QMF(MultimodalModule):
    """One head per modality, logits fused by energy confidence, and a ranking loss on it.

    Loss: that of the task (in the paper cross-entropy) on the fused logits and on each modality's
    own logits, plus ``rank_weight`` times a ranking loss per modality, which encourages a larger
    confidence for samples with a smaller cumulative loss.

    ``rank_mode=margin`` is the ranking loss with the difference of the histories as margin;
    ``released`` is the released code's loss, in which that difference is a slack, not a margin.
    ``joint_weight=0`` omits the fused loss, as MLA's code does on transformers.

    Example:
        The cumulative loss of every training sample is stored, by its ``index``:

        >>> from functools import partial
        >>> import torch
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> QMF(num_train=100, **parts).history_MN.shape
        torch.Size([2, 100])
        >>> QMF(**parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: QMF stores a history per training sample: give
        num_train=<number of training samples>, and each sample's number as batch['index'].
    """

    default_fusion = EnergyFusion
    follows_task = True
    takes_ranks = True
    not_for: Mapping[str, str] = {
        "regression": "one number has no energy. Use method=late_fusion or method=mla"
    }
    needs_num_train = True
    takes_chunks = False  # pairs are ranked within a batch
    reference = Reference(
        "Provable Dynamic Fusion for Low-Quality Multimodal Data",
        "ICML",
        2023,
        "https://arxiv.org/abs/2306.02050",
    )

    def __init__(
        self,
        *,
        rank_weight: float = 0.1,
        joint_weight: float = 1.0,
        rank_mode: str = "margin",
        history_update: str = "before",
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            rank_weight: Weight of each modality's ranking loss, >= 0.
            joint_weight: Weight of the fused loss, >= 0.
            rank_mode: ``margin`` or ``released``.
            history_update: Whether the batch's losses are added to the history ``before`` or
                ``after`` ranking.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be the energy fusion.

        Raises:
            ConfigError: If a value is out of range or a setting would have no effect.
        """
        for option, weight in (("rank_weight", rank_weight), ("joint_weight", joint_weight)):
            if weight < 0:
                raise ConfigError(f"method.{option} must be >= 0, got {weight}")
        for option, value, known in (
            ("rank_mode", rank_mode, ("margin", "released")),
            ("history_update", history_update, ("before", "after")),
        ):
            if value not in known:
                raise ConfigError(f"method.{option} must be one of {known}, got {value!r}")
        if not rank_weight and (rank_mode != "margin" or history_update != "before"):
            raise ConfigError(
                "method.rank_mode and method.history_update have no effect with "
                "method.rank_weight=0: nothing is ranked"
            )
        super().__init__(**parts)
        self.rank_weight, self.joint_weight = rank_weight, joint_weight
        self.rank_mode, self.history_update = rank_mode, history_update
        self.history_MN: Tensor
        self.register_buffer("history_MN", torch.zeros(len(self.modalities), self.num_train))

    def on_train_epoch_start(self) -> None:
        """Begin a training with no earlier loss, whatever training the weights come from."""
        super().on_train_epoch_start()
        if self.trainer.global_step == 0:
            self.history_MN.zero_()

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the fused, the unimodal and the ranking losses."""
        return self.step_on(batch, self._losses_of)

    def _losses_of(self, chunk: Batch) -> dict[str, Tensor]:
        features, label = self.features(chunk), chunk["label"]
        logits = self.fusion.unimodal(features)
        losses = self.parts.unimodal_losses(logits, chunk)
        if self.joint_weight:
            fused = self.fusion(features, self.parts.presence(chunk))
            losses["joint"] = self.joint_weight * self.parts.loss(fused, chunk)
        if not self.rank_weight:
            return losses
        sample_losses = {m: self.task.sample_losses(logits[m], label) for m in logits}
        if self.history_update == "before":
            self._add_to_history(sample_losses, chunk)
        inverse_fraction = num_in_batch(chunk) / len(label)  # pairs are ranked in the whole batch
        history_MN = normalise_history(self.history_MN)
        for history_N, name in zip(history_MN, self.modalities, strict=True):
            samples = self.parts.samples_with(name, chunk)
            if samples is None:
                continue
            rows = slice(None) if samples is chunk else chunk["present"][name]
            confidence = ranks.gathered_with_gradient(self.task.confidence(logits[name][rows]))
            history = history_N[ranks.gathered(samples["index"])]
            rank = ranks.once(confidence_rank_loss(confidence, history, self.rank_mode))
            losses[f"rank/{name}"] = self.rank_weight * inverse_fraction * rank
        if self.history_update == "after":
            self._add_to_history(sample_losses, chunk)
        return losses

    @torch.no_grad()
    def _add_to_history(self, sample_losses: dict[str, Tensor], chunk: Batch) -> None:
        index = ranks.gathered(chunk["index"])
        for history_N, name in zip(self.history_MN, self.modalities, strict=True):
            loss = ranks.gathered(sample_losses[name].detach())
            if self.parts.is_complete:
                history_N[index] += loss.to(history_N)
            else:
                has = chunk.get("present_in_batch", chunk["present"])[name]
                history_N[index[has]] += loss[has].to(history_N)
