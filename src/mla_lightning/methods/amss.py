"""AMSS: adaptively masked subnetworks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

import torch
from torch import Tensor

from mla_lightning import ranks
from mla_lightning.batch import Batch, num_in_batch
from mla_lightning.errors import ConfigError, near
from mla_lightning.functional import (
    at_least_single,
    categorical_entropies,
    keep_ratios,
    label_entropy,
    subnetwork_factors,
)
from mla_lightning.fusion.concat import Concat
from mla_lightning.methods.mechanisms.concat_fusions import with_slices
from mla_lightning.methods.mechanisms.encoder_gradients import (
    is_trained,
    own_parameters,
    selected_parameters,
)
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition

LABEL_ENTROPIES = (True, "released")
PARAM_FILTERS = ("ndim>=2", "conv")


class AMSS(MultimodalModule):
    """Joint training that updates a sampled part of each encoder; the stronger, the smaller.

    The strength of a modality in a batch is its mutual-information rate, of the loss of its own
    logits and the entropies of labels and features. Of each weight, filters (slices of its first
    axis) are drawn without replacement, by the sum of their squared gradients; the gradients of the
    others are 0. ``unbiased`` (AMSS+) divides what remains by the probability of a filter.

    The paper samples filters of convolutions. ``param_filter=conv`` takes all weights of four axes;
    the released code those of them whose names have both ``layer`` and ``conv``, so of a ResNet
    neither the first convolution nor those of shortcuts. ``param_filter=ndim>=2`` also samples the
    rows of linear weights, which is ours; those of embeddings, which are words, it never does. By
    default that is done in each encoder of whose trained weights convolutions are not the most,
    such as a transformer with a convolution for its patches.

    The released code builds a mask of the joint head, too, and never applies it; ``mask_head``
    does: in each class's row a share of each modality's columns is drawn. Its entropy of the labels
    is a cross-entropy of the shares with a softmax of themselves (``label_entropy=released``). For
    three modalities it has ``offset`` 3 and other constants. The year of the publication in TPAMI
    is not confirmed.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> method = AMSS(**parts)
        >>> [p.shape for p in method.masked["audio"]]
        [torch.Size([4, 3])]
        >>> print(*method.notes)
        AMSS samples the rows of linear weights, too, in audio and visual: convolutions, which the
        paper has, are not the most of their trained weights
        >>> AMSS(param_filter="conv", **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.param_filter='conv' selects no trained parameter of
        these encoders, so the method would be joint training. Use param_filter=ndim>=2.
    """

    follows_task = True
    not_for: Mapping[str, str] = {
        "regression": "it needs the entropy of classes. Use method=mlb or method=ogm",
        "multilabel": "it needs the entropy of classes. Use method=mlb or method=ogm",
    }
    takes_ranks = True
    takes_incomplete = False
    default_fusion = Concat
    fusion: Concat
    reference = Reference(
        "Learning to Rebalance Multi-Modal Optimization by Adaptively Masking Subnetworks",
        "TPAMI",
        2025,
        "https://arxiv.org/abs/2404.08347",
    )

    def __init__(
        self,
        *,
        temperature: float = 0.2,
        offset: float = 0.5,
        unbiased: bool = False,
        label_entropy: bool | str = True,
        mask_head: bool = False,
        param_filter: str | None = None,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            temperature: Temperature of the softmax over the modalities' rates, > 0.
            offset: Number that is added to the mutual information, >= 0.
            unbiased: Whether kept gradients are divided by the filters' probabilities (AMSS+).
            label_entropy: True, or ``released`` for the released code's number.
            mask_head: Whether the joint head is masked, too.
            param_filter: Which of an encoder's parameters are masked: ``conv`` (4-D), or
                ``ndim>=2`` (also linear weights); None for ``conv`` in each encoder of whose
                trained weights these are the most, and ``ndim>=2`` in the others.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be concat.

        Raises:
            ConfigError: If a value is out of range, the fusion is not concat, encoders share
                parameters, all are frozen and the head is not masked, or the filter selects no
                parameter at all.
        """
        if temperature <= 0:
            raise ConfigError(f"method.temperature must be > 0, got {temperature}")
        if offset < 0:
            raise ConfigError(f"method.offset must be >= 0, got {offset}")
        if label_entropy not in LABEL_ENTROPIES:
            raise ConfigError(
                f"method.label_entropy={label_entropy!r} is unknown."
                f"{near(str(label_entropy), ['released'])} Known: true, released"
            )
        super().__init__(**parts)
        with_slices(self)
        self.temperature, self.offset, self.unbiased = temperature, offset, unbiased
        self.label_entropy, self.mask_head = label_entropy, mask_head
        own_parameters(self.encoders, otherwise=None if mask_head else "method=concat")
        #: Modality -> the parameters whose gradients are masked.
        self.masked: dict[str, list[torch.nn.Parameter]] = {m: [] for m in self.modalities}
        if is_trained(self.encoders):
            chosen = param_filter or "ndim>=2"
            selected = selected_parameters(self.encoders, chosen, known=PARAM_FILTERS)
            self.masked = self._without_embeddings(selected)
        if param_filter is None:
            self._leave_linear_weights_of_convolutional_encoders()
        if whole := [name for name, parameters in self.masked.items() if not parameters]:
            self.notes.add(f"AMSS masks no weight of the encoder of {' and '.join(whole)}")

    def _without_embeddings(
        self, selected: Mapping[str, Sequence[torch.nn.Parameter]]
    ) -> dict[str, list[torch.nn.Parameter]]:
        """Leave out tables of embeddings, whose rows are words and no filters."""
        tables = {
            id(module.weight)
            for module in self.encoders.modules()
            if isinstance(module, torch.nn.Embedding | torch.nn.EmbeddingBag)
        }
        masked = {m: [p for p in ps if id(p) not in tables] for m, ps in selected.items()}
        if not any(masked.values()) and not self.mask_head:
            raise ConfigError(
                "AMSS masks filters and rows of linear weights, and these encoders train "
                "embeddings alone, so the method would be joint training. Use method=concat."
            )
        return masked

    def _leave_linear_weights_of_convolutional_encoders(self) -> None:
        """Mask convolutions alone, as the paper does, where they are most of the weights."""
        others = []
        for name, weights in self.masked.items():
            filters = [p for p in weights if p.ndim == 4]
            if 2 * sum(p.numel() for p in filters) > sum(p.numel() for p in weights):
                self.masked[name] = filters
            elif weights:
                others.append(name)
        if others:
            self.notes.add(
                f"AMSS samples the rows of linear weights, too, in {' and '.join(others)}: "
                "convolutions, which the paper has, are not the most of their trained weights"
            )

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the fused loss, with masked encoder gradients."""
        sums: list[Tensor] = []  # of each chunk: losses and entropies of features (2, M)

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            with torch.no_grad():
                own = self.fusion.unimodal(features)
                losses = [
                    self.task.sample_losses(at_least_single(z), chunk["label"]).sum()
                    for z in own.values()
                ]
                entropies = [categorical_entropies(h).sum() for h in features.values()]
                sums.append(torch.stack([torch.stack(losses), torch.stack(entropies)]))
            return {"joint": self.parts.loss(self.fusion(features), chunk)}

        def mask() -> None:
            means = ranks.total(torch.stack(sums).sum(dim=0)) / num_in_batch(batch)
            for name, keep in zip(self.modalities, self._keep_ratios(means, batch), strict=True):
                self._mask(name, keep)

        return self.step_on(batch, losses_of, edit_grads=mask)

    def _keep_ratios(self, means: Tensor, batch: Batch) -> Tensor:
        """Return the share of each modality's encoder that is updated (M,)."""
        label = batch.get("label_in_batch", batch["label"])
        shares = torch.bincount(label).to(means) / len(label)
        entropy = label_entropy(shares, released=self.label_entropy == "released")
        return keep_ratios(means[0], entropy, means[1], self.temperature, self.offset)

    def _mask(self, name: str, keep: Tensor) -> None:
        for parameter in self.masked[name]:
            if (gradient := parameter.grad) is not None:
                squares = at_least_single(gradient).square().flatten(start_dim=1)
                factors = self._factors(squares.sum(dim=1), keep)
                gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))
        if self.mask_head:
            assert self.fusion.head.weight.grad is not None
            columns = self.fusion.columns(self.fusion.head.weight.grad)[name]
            columns.mul_(self._factors(at_least_single(columns).square(), keep))

    def _factors(self, importance: Tensor, keep: Tensor) -> Tensor:
        uniform = torch.rand_like(importance)
        return subnetwork_factors(importance, keep, uniform, unbiased=self.unbiased)
