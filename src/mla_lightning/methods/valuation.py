"""Valuation: samples are repeated with the modalities alone that contribute little to them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from mla_lightning.batch import Batch, slice_batch
from mla_lightning.errors import ConfigError, check_choice
from mla_lightning.functional import contributions, copies_of, repeated_shares, subsets
from mla_lightning.fusion.concat import Concat
from mla_lightning.methods.mechanisms.planned_rows import PlannedRows
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition
from mla_lightning.randomness import derive_seed

LEVELS = ("sample", "modality")
#: Settings of ``level=modality``, which have no effect otherwise.
PART, ALPHA = 0.2, 1.0


class Valuation(PlannedRows):
    r"""Joint training in which samples occur again with modalities alone that contribute little.

    At the start of each epoch after the warm-up, the value of a subset S of the modalities is
    ``|S|`` if the prediction from S (zeros for all other features) is right, else 0. A modality's
    contribution :math:`\varphi_m` is its Shapley value. Every sample occurs once whole, and

    - ``level=sample``: also with modality m alone, 0 times if :math:`\varphi_m \ge 1`, once above
      0.4, twice above -0.1, else three times;
    - ``level=modality``: contributions are averaged over a random part of the training split. Of
      the samples, a share of :math:`\frac{2}{3} \alpha (\max_j \varphi_j - \varphi_m)`, drawn with
      replacement, also occurs with modality m alone.

    An epoch has up to 1 + 3 M times as many rows as samples, 7 million of a million samples of two
    modalities; their list takes up to 60 bytes per row. The loss is the task's on the fused logits.
    Samples are valued without augmentation; the released code augments them, too. The authors'
    values of ``alpha`` by data set are not known. The paper has two modalities; for more, Shapley
    values are exact, and each modality is compared with the best: this package's generalisation.

    Example:
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.Adam, lr=5e-5),
        ...     "num_train": 6,
        ...     "train_batches": list,
        ... }
        >>> Valuation(**parts).fusion.unimodal_rule
        'zero_feature'
        >>> Valuation(alpha=0.5, **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.part and method.alpha have no effect with
        method.level=sample. Leave them out, or use level=modality.
    """

    follows_task = True
    takes_ranks = True
    published_warmup = (5, 60)
    default_fusion = partial(Concat, unimodal_rule="zero_feature")
    reference = Reference(
        "Enhancing Multimodal Cooperation via Sample-level Modality Valuation",
        "CVPR",
        2024,
        "https://arxiv.org/abs/2309.06255",
    )
    not_for: Mapping[str, str] = {
        "regression": "a number is not right or wrong. Use method=joint_unimodal",
        "multilabel": "several labels are not right or wrong as one class is. Use "
        "method=joint_unimodal",
    }

    def __init__(
        self,
        *,
        level: str = "sample",
        warmup_epochs: int | None = None,
        part: float = PART,
        alpha: float = ALPHA,
        masked_encoders: str = "skip",
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            level: ``sample`` or ``modality``: whether contributions decide for each sample.
            warmup_epochs: Number of first epochs on whole samples, fewer than all; None for a
                twelfth of all, rounded up, as in the released code.
            part: With ``level=modality``, the part of the training samples that is valued, in
                (0, 1].
            alpha: With ``level=modality``, the strength of the repetition, > 0.
            masked_encoders: ``skip``: an encoder gets only rows that have its modality. ``run``: it
                gets all rows, so that its batch statistics depend on all.
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If a value is out of range or has no effect.
        """
        check_choice("method.level", level, LEVELS)
        if not 0 < part <= 1:
            raise ConfigError(f"method.part must be in (0, 1], got {part}")
        if alpha <= 0:
            raise ConfigError(f"method.alpha must be > 0, got {alpha}")
        if level == "sample" and (part, alpha) != (PART, ALPHA):
            raise ConfigError(
                "method.part and method.alpha have no effect with method.level=sample. Leave them "
                "out, or use level=modality."
            )
        super().__init__(warmup_epochs=warmup_epochs, masked_encoders=masked_encoders, **parts)
        self.level, self.part, self.alpha = level, part, alpha

    def count_rows(self) -> Tensor:
        """Count the copies of each sample, whole and with each modality alone."""
        counts = self.whole_samples()
        if self.level == "sample":
            for batch in self.training_batches():
                counts[batch["index"], 1:] = copies_of(self._contributions(batch)).T
            return counts
        for position, share in enumerate(repeated_shares(self._mean_contributions(), self.alpha)):
            counts[:, 1 + position] = self._drawn(self.modalities[position], float(share))
        return counts

    def _contributions(self, batch: Batch) -> Tensor:
        """Compute the contribution of each modality to each sample (M, B)."""
        features, has = self.features(batch), torch.ones_like(batch["label"], dtype=torch.bool)
        is_right = {}
        for subset in subsets(len(self.modalities))[1:]:
            present = {m: has if i in subset else ~has for i, m in enumerate(self.modalities)}
            is_right[subset] = self.fusion(features, present).argmax(dim=1) == batch["label"]
        return contributions(is_right)

    def _mean_contributions(self) -> Tensor:
        """Compute the mean contribution of each modality (M,) to a random part of the samples."""
        num_valued = max(1, int(self.num_train * self.part))
        order = torch.randperm(self.num_train, generator=self._generator("part"))
        is_valued = torch.zeros(self.num_train, dtype=torch.bool, device=self.device)
        is_valued[order[:num_valued].to(self.device)] = True
        total = torch.zeros(len(self.modalities), dtype=torch.float32, device=self.device)
        for batch in self.training_batches():
            if bool((rows := is_valued[batch["index"]]).any()):
                total += self._contributions(slice_batch(batch, rows)).sum(dim=1)
        return total / num_valued

    def _drawn(self, name: str, share: float) -> Tensor:
        """Return how often each sample occurs in a share of them, drawn with replacement (N,)."""
        size = (round(share * self.num_train),)
        drawn = torch.randint(self.num_train, size, generator=self._generator("drawn", name))
        return drawn.bincount(minlength=self.num_train).clamp(max=255).to(self.counts)

    def _generator(self, *purpose: str) -> torch.Generator:
        seed = derive_seed(self.parts.seed, "valuation", *purpose, self.current_epoch)
        return torch.Generator().manual_seed(seed)

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the fused loss; rows have zeros for the features that they leave out."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            fused = self.fusion(self.features(chunk), self.parts.presence(chunk))
            return {"joint": self.parts.loss(fused, chunk)}

        return self.step_on(batch, losses_of)
