"""PMR: prototypical modal rebalance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from mla_lightning import ranks
from mla_lightning.batch import Batch, num_in_batch, slice_batch
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.functional import (
    at_least_single,
    binary_coefficients,
    categorical_entropies,
    graded_coefficients,
    prototype_logits,
    update_prototypes,
)
from mla_lightning.functional.sequences import mean_of_present_steps
from mla_lightning.fusion.concat import Concat
from mla_lightning.methods.mechanisms.encoder_gradients import check_trained
from mla_lightning.methods.mechanisms.epoch_start import EpochStart
from mla_lightning.methods.mechanisms.scores import BatchScores
from mla_lightning.methods.mechanisms.window import Window
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition, out_width
from mla_lightning.randomness import derive_seed

#: Added to variances, as in a batch normalisation.
EPS = 1e-5
#: Builds what normalises features of a width.
_norm = partial(nn.BatchNorm1d, affine=False, eps=EPS)
#: Coefficient -> scores (M,) -> coefficients (M,).
COEFFICIENTS = {"graded": graded_coefficients, "binary": binary_coefficients}


class PMR(EpochStart):
    r"""Joint training with a loss that draws a weaker modality's features to their class means.

    The prototypes are the class means of each modality's features, computed in evaluation mode at
    the start of each epoch and averaged with the earlier ones. The distances to them are a
    classifier of each modality, :math:`u_m = -\|h_m - c_k\|_2`, whose score of a batch is the sum
    of the probabilities of the true class. A modality that is behind the mean of the others has the
    cross-entropy of :math:`u_m` as an additional loss. In the first epochs the entropy of the best
    modality's :math:`u` is subtracted, times the largest coefficient, which holds that modality
    back.

    The paper's coefficient is graded (``coefficient=graded``); in the released code it is 1 or 0
    (``binary``), there is no entropy (``entropy_weight=0``), and prototypes are of a tenth of the
    training samples (``proto_fraction=0.1``), with NaN for a class that is not among them. Here
    such a class keeps its prototype, and the first prototypes are of all samples. The paper's
    momentum and its number of epochs with entropy are not known. Its rule is for two modalities;
    the mean of the others, the best modality and the largest coefficient are ours. Each modality is
    evaluated by the fusion's rule; the class of the nearest prototype is not reported.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ...     "train_batches": lambda: [],
        ... }
        >>> PMR(**parts).get_buffer("prototypes/audio").shape
        torch.Size([2, 4])
        >>> PMR(entropy_epochs=3, entropy_weight=0.0, **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.entropy_epochs=3 has no effect with
        method.entropy_weight=0
    """

    follows_task = True
    not_for: Mapping[str, str] = {
        "regression": "there are no classes with a mean. Use method=ogm_ge or method=inforeg",
        "multilabel": "a sample has no single class. Use method=ogm_ge or method=inforeg",
    }
    takes_ranks = True
    takes_incomplete = False
    takes_chunks = False  # the coefficients of the losses are those of the whole batch
    needs_train_batches = True
    default_fusion = Concat
    reference = Reference(
        "PMR: Prototypical Modal Rebalance for Multimodal Learning",
        "CVPR",
        2023,
        "https://arxiv.org/abs/2211.07089",
    )

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        coefficient: str = "graded",
        entropy_weight: float = 0.01,
        entropy_epochs: int = 5,
        proto_momentum: float = 0.2,
        proto_fraction: float = 1.0,
        normalise: bool = False,
        start_epoch: int = 0,
        end_epoch: int | None = 100,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            alpha: Weight of the losses on the prototypes' logits, >= 0.
            coefficient: ``graded`` or ``binary``.
            entropy_weight: Weight of the best modality's entropy, >= 0.
            entropy_epochs: Number of first epochs with the entropy, >= 1.
            proto_momentum: Share of the earlier prototypes, in [0, 1).
            proto_fraction: Share of the training samples that prototypes are of, in (0, 1].
            normalise: Whether features are normalised by a batch normalisation without weights
                before they are compared with prototypes. A batch of one sample is normalised by the
                running statistics.
            start_epoch: First epoch with prototypes, from 0.
            end_epoch: Last epoch with prototypes, None for all.
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If a value is out of range, a setting would have no effect, or all encoders
                are frozen.
        """
        for option, value in (("alpha", alpha), ("entropy_weight", entropy_weight)):
            if value < 0:
                raise ConfigError(f"method.{option} must be >= 0, got {value}")
        if coefficient not in COEFFICIENTS:
            raise ConfigError(
                f"method.coefficient must be one of {tuple(COEFFICIENTS)}, got {coefficient!r}"
            )
        if not 0 <= proto_momentum < 1:
            raise ConfigError(f"method.proto_momentum must be in [0, 1), got {proto_momentum}")
        if not 0 < proto_fraction <= 1:
            raise ConfigError(f"method.proto_fraction must be in (0, 1], got {proto_fraction}")
        self.window = Window(start_epoch, end_epoch)
        self._check_entropy(entropy_weight, entropy_epochs, start_epoch)
        super().__init__(**parts)
        check_trained(self.encoders, "method=concat")
        self.alpha, self.coefficients_of = alpha, COEFFICIENTS[coefficient]
        self.entropy_weight, self.entropy_epochs = entropy_weight, entropy_epochs
        self.proto_momentum, self.proto_fraction = proto_momentum, proto_fraction
        widths = {name: out_width(name, encoder) for name, encoder in self.encoders.items()}
        self.norms = nn.ModuleDict({m: _norm(d) for m, d in widths.items()} if normalise else {})
        num_classes = self.parts.num_classes
        for name, width in widths.items():
            self.register_buffer(f"prototypes/{name}", torch.zeros(num_classes, width))
        #: Which classes have prototypes (C,).
        self.is_set: Tensor
        self.register_buffer("is_set", torch.zeros(num_classes, dtype=torch.bool))

    @staticmethod
    def _check_entropy(weight: float, num_epochs: int, start_epoch: int) -> None:
        if num_epochs < 1:
            raise ConfigError(
                f"method.entropy_epochs must be >= 1, got {num_epochs}. For no entropy use "
                "method.entropy_weight=0."
            )
        if not weight and num_epochs != 5:
            raise ConfigError(
                f"method.entropy_epochs={num_epochs} has no effect with method.entropy_weight=0"
            )
        if weight and start_epoch >= num_epochs:
            raise ConfigError(
                f"method.start_epoch={start_epoch} comes after the method.entropy_epochs="
                f"{num_epochs} first epochs, so method.entropy_weight={weight} has no effect. "
                "Use method.entropy_weight=0, or more epochs."
            )

    def on_train_start(self) -> None:
        """Check that there is an epoch with prototypes."""
        self.window.check_reached(self.trainer.max_epochs)

    def prototypes(self, name: str) -> Tensor:
        """Return a modality's prototypes (C, D_m).

        Args:
            name: The modality.
        """
        return self.get_buffer(f"prototypes/{name}")

    def prepare_epoch(self) -> None:
        """Compute the class means of the features, and average them with the earlier ones."""
        if int(self.prepared_epoch) < 0:  # whatever training the weights come from
            self.is_set.zero_()
        if self.current_epoch not in self.window:
            return
        sums = {m: torch.zeros_like(at_least_single(self.prototypes(m))) for m in self.modalities}
        squares = {name: total.sum(dim=0) for name, total in sums.items()}
        count = sums[self.modalities[0]].sum(dim=1)
        for batch in self._samples():
            is_class_BC = nn.functional.one_hot(batch["label"], len(count)).to(count)
            count += is_class_BC.sum(dim=0)
            for name, h in self._pooled(self.features(batch)).items():
                sums[name] += is_class_BC.T @ h.to(count)
                squares[name] += h.to(count).square().sum(dim=0)
        has_any = count > 0
        if not bool((has_any | self.is_set).all()):
            lacking = (~(has_any | self.is_set)).nonzero()[0].item()
            raise DataError(f"PMR needs training samples of every class; class {lacking} has none.")
        for name in self.modalities:
            means_CD = sums[name] / count.clamp_min(1)[:, None]
            if self.norms:
                mean = sums[name].sum(dim=0) / count.sum()
                variance = (squares[name] / count.sum() - mean.square()).clamp_min(0)
                means_CD = (means_CD - mean) / (variance + EPS).sqrt()
            old = self.prototypes(name)
            new = update_prototypes(means_CD, count, old, self.is_set, self.proto_momentum)
            old.copy_(new)
        self.is_set |= has_any

    def _samples(self) -> Iterator[Batch]:
        """Iterate over the training samples that prototypes are of; the first time over all."""
        is_of_all = self.proto_fraction == 1 or not bool(self.is_set.all())
        for number, batch in enumerate(self.training_batches()):
            if is_of_all:
                yield batch
                continue
            seed = derive_seed(self.parts.seed, "prototypes", self.current_epoch, number)
            drawn = torch.rand(len(batch["label"]), generator=torch.Generator().manual_seed(seed))
            rows = (drawn < self.proto_fraction).to(batch["label"].device)
            if bool(rows.any()):
                yield slice_batch(batch, rows)

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the fused loss and on those of the modalities that are behind."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            losses = {"joint": self.parts.loss(self.fusion(features), chunk)}
            if self.current_epoch in self.window:
                losses |= self._prototype_losses(features, chunk)
            return losses

        return self.step_on(batch, losses_of)

    def _prototype_losses(self, features: Mapping[str, Tensor], chunk: Batch) -> dict[str, Tensor]:
        logits = {
            name: prototype_logits(h, self.prototypes(name))
            for name, h in self._normalised(features, chunk).items()
        }
        scores = BatchScores(self.task)
        scores.add(logits, chunk)
        scores_M = scores.total()
        coefficients_M = self.coefficients_of(scores_M)
        losses = {}
        if self.alpha:
            for (name, u_BC), coefficient in zip(logits.items(), coefficients_M, strict=True):
                loss = self.parts.loss(u_BC, chunk)
                losses[f"prototype/{name}"] = self.alpha * coefficient * loss
        if self.entropy_weight and self.current_epoch < self.entropy_epochs:
            best_BC = torch.stack([*logits.values()])[scores_M.argmax()]
            entropy = categorical_entropies(best_BC).sum() / max(len(best_BC), 1)
            losses["entropy"] = -self.entropy_weight * coefficients_M.max() * entropy
        return losses

    def _normalised(self, features: Mapping[str, Tensor], chunk: Batch) -> dict[str, Tensor]:
        pooled = self._pooled(features)
        return (
            {m: self._normalise(m, h, chunk) for m, h in pooled.items()} if self.norms else pooled
        )

    def _normalise(self, name: str, h: Tensor, chunk: Batch) -> Tensor:
        norm: Any = self.norms[name]
        num = num_in_batch(chunk) if ranks.is_synchronised(norm) else len(h)
        if num > 1:
            return norm(h)
        return nn.functional.batch_norm(h, norm.running_mean, norm.running_var, eps=norm.eps)

    def _pooled(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: at_least_single(h if h.ndim == 2 else mean_of_present_steps(h))
            for name, h in features.items()
        }
