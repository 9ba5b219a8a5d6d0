"""SimBaMM: a late-fusion transformer, trained jointly, optionally with modality dropout."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional import dropout_mask
from mla_lightning.fusion.transformer import TransformerFusion
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition


class SimBaMM(MultimodalModule):
    r"""Joint training of a late-fusion transformer: the simple baseline for multimodal learning.

    One loss on the fused logits trains everything; missing modalities are masked in the
    transformer. With ``modality_dropout`` each sample of a training batch drops each of its
    modalities with that probability, but never all of them: these are masked as absent ones are.
    A modality of a sample that has M is so dropped with probability :math:`p - p^M / M`.

    The public code drops no modality, so the default is 0. Encoders also compute the features of
    dropped modalities, which then have no effect on the loss but, through batch statistics, on the
    features of other samples.

    Example:
        >>> from functools import partial
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> type(SimBaMM(modality_dropout=0.3, **parts).fusion).__name__
        'TransformerFusion'
        >>> SimBaMM(modality_dropout=1.5, **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.modality_dropout must be in [0, 1], got 1.5
    """

    follows_task = True
    takes_ranks = True
    default_fusion = TransformerFusion
    reference = Reference(
        "Fusion or Confusion? Multimodal Complexity Is Not All You Need",
        "arXiv",
        2025,
        "https://arxiv.org/abs/2512.22991",
    )

    def __init__(self, *, modality_dropout: float = 0.0, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            modality_dropout: Probability that a modality of a training sample is dropped, in
                [0, 1]; with 1 each sample keeps one modality.
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If the probability is out of range.
        """
        if not 0 <= modality_dropout <= 1:
            raise ConfigError(f"method.modality_dropout must be in [0, 1], got {modality_dropout}")
        super().__init__(**parts)
        self.modality_dropout = modality_dropout

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the loss of the fused logits, without the dropped modalities."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            fused = self.fusion(self.features(chunk), self.kept(chunk))
            return {"joint": self.parts.loss(fused, chunk)}

        return self.step_on(batch, losses_of)

    def kept(self, chunk: Batch) -> dict[str, Tensor] | None:
        """Draw which modalities the samples of a chunk keep in this step.

        The numbers of a sample depend on seed, epoch, batch, modality and its index.

        Args:
            chunk: A batch or a chunk of one.

        Returns:
            Modality -> (B,) bool; None if all samples keep all.
        """
        if not self.modality_dropout:
            return self.parts.presence(chunk)
        place = f"modality dropout {self.trainer.fit_loop.batch_idx}"
        uniform_MB = torch.cat(
            [self.randomness_of(name, chunk).uniform(place, 1).T for name in self.modalities]
        )
        present_MB = torch.stack([chunk["present"][name] for name in self.modalities])
        kept_BM = dropout_mask(uniform_MB.T, present_MB.T, self.modality_dropout)
        return dict(zip(self.modalities, kept_BM.T, strict=True))
