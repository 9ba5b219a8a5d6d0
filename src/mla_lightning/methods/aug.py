"""AUG: sustained boosting of the weaker modality's classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from operator import add
from typing import Unpack

import torch
from torch import Tensor
from torch.optim import Optimizer

from mla_lightning.batch import Batch, num_in_batch
from mla_lightning.errors import ConfigError, check_choice
from mla_lightning.functional import modality_behind, residual_cross_entropy
from mla_lightning.fusion.branched import Branched
from mla_lightning.methods.mechanisms.epoch_start import EpochStart
from mla_lightning.methods.mechanisms.scores import BatchScores
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition

#: Setting -> its values.
CHOICES = {"rule": ("difference", "ratio"), "step": ("joint", "alternating")}


class AUG(EpochStart):
    r"""The modality that is behind gets another classifier, which learns what the others get wrong.

    Each modality has a hidden layer before a shared head, and branches that are added during
    training; its logits :math:`z_m` are the sum over its classifiers. Without a branch its loss is
    the cross-entropy of :math:`z_m`. With branches it is that of :math:`z_m`, plus that of
    :math:`z'_m`, which is :math:`z_m` without the newest branch, plus the mean of
    :math:`(1 - \lambda p'_{m,y}) (-\log p_y)`, with the prediction p of the newest branch alone and
    the constant prediction p' of :math:`z'_m`.

    After the first epoch and at every tenth of the training, modalities are compared by the mean
    probability of the true class in the epoch's training batches; the weakest gets a branch if it
    is behind the strongest by more than ``threshold``.

    The losses of all modalities are summed (``step=joint``) and scores are compared by their
    difference, as the paper is reported to do; the paper's own text was not at hand. Its residual
    target is said to subtract the predictions of every earlier classifier; here it is that of the
    earlier ones together, as in the released code. That code takes one step per modality
    (``step=alternating``), between which gradients are set to zero but not deleted
    (``legacy_zero_grad``), and compares the ratio of the first modality's score to the second's
    (``rule=ratio``). It is for two modalities; that the weakest of more is compared with the
    strongest is the rule of SimBaMM's code.

    Example:
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> method = AUG(**parts)
        >>> method.fusion.num_added, method.fusion.weighting
        ({'audio': 0, 'visual': 0}, (0.4, 0.6))
        >>> AUG(rule="ratios", **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.rule='ratios' is unknown. Did you mean 'ratio'?
        Known: difference, ratio
    """

    fusion: Branched
    trains_fused_logits = False
    takes_ranks = True
    takes_incomplete = False
    default_fusion = Branched
    not_for: Mapping[str, str] = {
        "regression": "a branch learns from the probability of one true class. Use method=mla or "
        "method=late_fusion",
        "multilabel": "a branch learns from the probability of one true class. Use method=mla or "
        "method=late_fusion",
        "class_weights": "a branch weights samples by what earlier classifiers get wrong",
    }
    reference = Reference(
        "Rethinking Multimodal Learning from the Perspective of Mitigating Classification Ability "
        "Disproportion",
        "NeurIPS",
        2025,
        "https://arxiv.org/abs/2502.20120",
    )

    def __init__(
        self,
        *,
        rule: str = "difference",
        step: str = "joint",
        discount: float = 0.5,
        threshold: float = 0.01,
        sigma: float = 1.0,
        check_every: int | None = None,
        weighting: str | Sequence[float] | None = None,
        released_branches: bool = False,
        legacy_zero_grad: bool = False,
        **parts: Unpack[Composition],
    ) -> None:
        r"""Build the module.

        Args:
            rule: ``difference`` of the scores, or their ``ratio`` as in the released code.
            step: ``joint``: one step on the sum of the losses; ``alternating``: one per modality,
                as in the released code.
            discount: :math:`\lambda`, how much of the earlier prediction is taken from a branch's
                target, in [0, 1].
            threshold: By how much the weakest modality must be behind, >= 0.
            sigma: Factor of the weakest modality's score in the difference, > 0.
            check_every: Epochs between two comparisons; None for a tenth of trainer.max_epochs.
            weighting: Weights of the modalities' logits in the fused ones; None for 0.4 and 0.6, in
                the data's order, and equal ones for more than two modalities.
            released_branches: Whether branches keep their random weights, and only pass gradients
                on. The released code creates them after the optimiser, which never gets them.
            legacy_zero_grad: With ``step=alternating``, whether gradients are cleared to zero and
                not to None between the steps of a batch, as in the torch version of the released
                code. The encoders already trained in a batch are then updated again by momentum and
                weight decay while the others are trained.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be ``branched``.

        Raises:
            ConfigError: If a value is out of range or has no effect, or the fusion has no branches.
        """
        for name, value in (("rule", rule), ("step", step)):
            check_choice(f"method.{name}", value, CHOICES[name])
        if not 0 <= discount <= 1:
            raise ConfigError(f"method.discount must be from 0 to 1, got {discount}")
        if threshold < 0 or (rule == "difference" and threshold >= 1):
            raise ConfigError(
                f"method.threshold must be >= 0, and < 1 with method.rule=difference, got "
                f"{threshold}; no modality is further behind"
            )
        if sigma <= 0 or (rule == "ratio" and sigma != 1):
            raise ConfigError(
                f"method.sigma must be > 0, and has no effect with method.rule=ratio, got {sigma}"
            )
        if legacy_zero_grad and step == "joint":
            raise ConfigError(
                "method.legacy_zero_grad=true has no effect with method.step=joint, which takes "
                "one step per batch. Use step=alternating."
            )
        if check_every is not None and check_every < 1:
            raise ConfigError(f"method.check_every must be at least 1, got {check_every}")
        fusion = parts.get("fusion") or self.default_fusion
        if "weighting" in getattr(fusion, "keywords", {}):
            raise ConfigError("method.fusion.weighting has no effect on AUG; set method.weighting")
        if weighting is None:
            weighting = (0.4, 0.6) if len(parts["encoders"]) == 2 else "mean"
        kind = getattr(fusion, "func", fusion)
        if isinstance(kind, type) and not issubclass(kind, Branched):
            raise ConfigError(
                f"AUG adds branches to a modality, and {kind.__name__} has none; use "
                "fusion@method.fusion=branched"
            )
        super().__init__(**parts | {"fusion": partial(fusion, weighting=weighting)})
        if not self.fusion.num_branches:
            raise ConfigError(
                "method.fusion.num_branches=0 has no branch to add. For a shared head without "
                "branches, use method=mla method.hgm=false method.df=false."
            )
        self.is_joint = step == "joint"
        self.discount, self.check_every = discount, check_every
        self.legacy_zero_grad = legacy_zero_grad
        self.behind = partial(modality_behind, rule=rule, threshold=threshold, sigma=sigma)
        if released_branches:
            self.fusion.branches.requires_grad_(False)
        #: Each modality's sum of the probabilities of the true class in the epoch so far (M,).
        self.scores: Tensor
        self.register_buffer("scores", torch.zeros(len(self.modalities)))
        self.num_scored: Tensor
        self.register_buffer("num_scored", torch.tensor(0))

    @property
    def training_stage(self) -> int:
        """The number of branches so far, on which the cost of a step depends."""
        return sum(self.fusion.num_added.values())

    def on_train_start(self) -> None:
        """Note where there are too few epochs for ten comparisons."""
        if self.check_every is None and (self.trainer.max_epochs or 0) < 10:
            self.notes.add("AUG compares modalities after every epoch: there are fewer than 10")

    def prepare_epoch(self) -> None:
        """Add a branch if modalities are compared after the last epoch and one is behind."""
        if int(self.prepared_epoch) < 0:  # whatever training the weights come from
            self.num_scored.zero_()
        interval = self.check_every or max(1, (self.trainer.max_epochs or 0) // 10)
        is_compared = self.current_epoch == 1 or self.current_epoch % interval == 0
        if is_compared and int(self.num_scored):
            position = self.behind(self.scores / self.num_scored)
            if position is not None:
                self.fusion.add_branch(self.modalities[position])
        self.scores.zero_()
        self.num_scored.zero_()

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the losses of all modalities, or one per modality."""
        if self.legacy_zero_grad:  # at the start of a batch the released code deletes them
            self.trainer.optimizers[0].zero_grad(set_to_none=True)
        steps = [self.modalities] if self.is_joint else [(name,) for name in self.modalities]
        losses: dict[str, Tensor] = {}
        for names in steps:
            losses |= self._fit(names, batch)
        self.num_scored += num_in_batch(batch)
        return losses

    def _clear_grads(self, optimizer: Optimizer) -> None:
        optimizer.zero_grad(set_to_none=not self.legacy_zero_grad)

    def _fit(self, names: Sequence[str], batch: Batch) -> dict[str, Tensor]:
        scores = BatchScores(self.task)

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            of_modality = {
                name: self.fusion.classifiers(name, self.encode(name, chunk)) for name in names
            }
            scores.add({name: reduce(add, u) for name, u in of_modality.items()}, chunk)
            return {name: self.boosted_loss(u, chunk) for name, u in of_modality.items()}

        losses = self.step_on(batch, losses_of)
        with self.full_precision():
            self.scores[[self.modalities.index(name) for name in names]] += scores.total()
        return losses

    def boosted_loss(self, classifiers: Sequence[Tensor], chunk: Batch) -> Tensor:
        """Compute the loss of one modality.

        Args:
            classifiers: Logits (B, C) of its hidden layer and of each branch, the newest last.
            chunk: The batch or a chunk of one.

        Returns:
            The loss, a scalar.
        """
        loss = self.parts.loss(reduce(add, classifiers), chunk)
        if len(classifiers) == 1:
            return loss
        *earlier, newest = classifiers
        before = reduce(add, earlier)
        residual = residual_cross_entropy(newest, before, chunk["label"], discount=self.discount)
        return loss + self.parts.loss(before, chunk) + residual
