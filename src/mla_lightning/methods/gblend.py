"""Gradient-Blending: losses weighted by generalisation per squared overfitting."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack

import torch
from torch import Tensor, nn

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError, check_choice
from mla_lightning.functional import blending_weights
from mla_lightning.fusion.concat_heads import ConcatHeads
from mla_lightning.methods.mechanisms.epoch_start import EpochStart
from mla_lightning.methods.mechanisms.look_ahead import on_trial, train_ahead
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition

MODES = ("online", "offline")
ESTIMATES = ("lookahead", "consecutive")
SUPER_EPOCH, LOOKAHEAD_EPOCHS = 10, 10


class GBlend(EpochStart):
    """A weighted sum of the joint loss and each modality's own one (Gradient-Blending).

    A loss has more weight if its training gains more on held-out samples and overfits less. To find
    out, each modality alone, and the joint branch alone, is trained on trial for some epochs from
    the present weights, with a new optimiser at the present learning rate; then all that is undone.
    As the modalities share nothing, they are trained on trial side by side. ``online`` estimates
    the weights again every ``super_epoch`` epochs, ``offline`` once, at the start.

    With ``estimate=consecutive``, as in a public re-implementation, nothing is trained on trial:
    the losses at the starts of the last two epochs are compared, and weights are equal before the
    first estimate.

    No code of the algorithm was released. How many epochs the paper looks ahead, and how many are
    between two estimates, is not known; 10 and 10 are those of BalanceBenchmark, which has sums in
    place of means, the absolute value of the gain, and the test split in place of held-out samples.
    The share of the training samples that is held out is ours: a quarter, and at least 20 samples
    per class.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ...     "train_batches": list,
        ... }
        >>> GBlend(held_out_batches=list, **parts).weights  # of audio, visual and the joint loss
        tensor([0.3333, 0.3333, 0.3333])
        >>> GBlend(**parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: GBlend needs training samples that are not trained on. Set
        data.held_out=0.1; ...
    """

    follows_task = True
    takes_incomplete = False
    needs_train_batches = True
    needs_held_out = True
    min_held_out_per_class = 20
    default_fusion = ConcatHeads
    reference = Reference(
        "What Makes Training Multi-Modal Classification Networks Hard?",
        "CVPR",
        2020,
        "https://arxiv.org/abs/1905.12681",
    )

    def __init__(
        self,
        *,
        mode: str = "online",
        super_epoch: int = SUPER_EPOCH,
        estimate: str = "lookahead",
        lookahead_epochs: int = LOOKAHEAD_EPOCHS,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            mode: ``online`` or ``offline``.
            super_epoch: Number of epochs between two estimates of ``online``, >= 1.
            estimate: ``lookahead`` or ``consecutive``.
            lookahead_epochs: Number of epochs on trial of ``lookahead``, >= 1.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must have a head for each
                modality.

        Raises:
            ConfigError: If a value is unknown, out of range or without effect, or the fusion has no
                own heads.
        """
        for key, value, known in (("mode", mode, MODES), ("estimate", estimate, ESTIMATES)):
            check_choice(f"method.{key}", value, known)
        for key, number in (("super_epoch", super_epoch), ("lookahead_epochs", lookahead_epochs)):
            if number < 1:
                raise ConfigError(f"method.{key} must be at least 1, got {number}")
        if estimate == "consecutive" and lookahead_epochs != LOOKAHEAD_EPOCHS:
            raise ConfigError(
                f"method.lookahead_epochs={lookahead_epochs} has no effect with "
                "method.estimate=consecutive, which trains nothing on trial"
            )
        if mode == "offline" and super_epoch != SUPER_EPOCH:
            raise ConfigError(
                f"method.super_epoch={super_epoch} has no effect with method.mode=offline, which "
                "estimates the weights once, at the start. Leave it out, or use mode=online."
            )
        if mode == "offline" and estimate == "consecutive":
            raise ConfigError(
                "method.mode=offline estimates the weights once, at the start, where there are no "
                "earlier epochs to compare: use estimate=lookahead, or mode=online"
            )
        super().__init__(**parts)
        heads = getattr(self.fusion, "heads", None)
        if self.fusion.unimodal_rule != "own_head" or heads is None:
            raise ConfigError(
                f"GBlend trains each modality alone, by a head of its own, and "
                f"{type(self.fusion).__name__} has none. Use fusion@method.fusion=concat_heads."
            )
        self.mode, self.estimate = mode, estimate
        self.super_epoch, self.lookahead_epochs = super_epoch, lookahead_epochs
        if estimate == "lookahead" and mode == "online" and super_epoch < lookahead_epochs:
            self.notes.add(
                f"method.super_epoch={super_epoch} is less than lookahead_epochs={lookahead_epochs}"
                ": the epochs on trial overlap"
            )
        num = len(self.modalities) + 1
        #: Weights of the modalities' losses, in their order, and of the joint loss.
        self.weights: Tensor
        self.register_buffer("weights", torch.full((num,), 1 / num))
        #: Losses on training and on held-out samples at the start of the last epoch (2, M + 1).
        self.earlier: Tensor
        self.register_buffer("earlier", torch.zeros(2, num))

    def on_train_start(self) -> None:
        """Check that the weights are estimated at all."""
        num_epochs = self.trainer.max_epochs or 0
        if self.estimate == "consecutive" and self.super_epoch >= num_epochs:
            raise ConfigError(
                f"method.super_epoch={self.super_epoch}: with estimate=consecutive the first "
                f"estimate is after that many epochs, and trainer.max_epochs={num_epochs}. Use a "
                "smaller one, or estimate=lookahead."
            )
        if self.mode == "online" and self.super_epoch >= num_epochs > 0:
            self.notes.add(
                "G-Blend estimates its weights once, at the start, as mode=offline does: the "
                f"next estimate would be after {self.super_epoch} epochs (method.super_epoch)"
            )

    def prepare_epoch(self) -> None:
        """Estimate the weights, in the epochs in which that is due."""
        epoch = self.current_epoch
        if int(self.prepared_epoch) < 0:  # whatever training the weights come from
            self.weights.fill_(1 / len(self.weights))
            self.earlier.zero_()
        if self.estimate == "consecutive":
            is_due = epoch > 0 and epoch % self.super_epoch == 0
            if is_due or (epoch + 1) % self.super_epoch == 0:
                now = self._mean_losses()
                if is_due:
                    self.weights.copy_(self._weights_of(self.earlier, now))
                self.earlier.copy_(now)
        elif epoch % self.super_epoch == 0 if self.mode == "online" else epoch == 0:
            self.weights.copy_(self._look_ahead())

    def _look_ahead(self) -> Tensor:
        """Return the weights (M + 1,) by training each branch alone, on trial."""
        heads = self.fusion.heads
        assert isinstance(heads, nn.ModuleDict)
        alone = [
            [*self.encoders[name].parameters(), *heads[name].parameters()]
            for name in self.modalities
        ]
        before = self._mean_losses()
        after = []
        for losses_of, clipped in (
            (self._unimodal_losses, alone),
            (self._joint_loss, [list(self.parameters())]),
        ):
            with on_trial(self):
                self.train_as_before()
                train_ahead(self, losses_of, self.lookahead_epochs, clipped)
                self.eval()
                after.append(self._mean_losses())
        unimodal, joint = after
        return self._weights_of(before, torch.cat([unimodal[:, :-1], joint[:, -1:]], dim=1))

    @staticmethod
    def _weights_of(before: Tensor, after: Tensor) -> Tensor:
        return blending_weights(before[0], after[0], before[1], after[1])

    def _mean_losses(self) -> Tensor:
        """Return each branch's mean loss on training and on held-out samples (2, M + 1)."""
        return torch.stack(
            [self._losses_on(self.training_batches()), self._losses_on(self.held_out_batches())]
        )

    def _losses_on(self, batches: Iterable[Batch]) -> Tensor:
        """Return each branch's mean loss over all samples of some batches (M + 1,)."""
        logits: list[list[Tensor]] = []
        labels = []
        for batch in batches:
            features = self.features(batch)
            logits.append([*self.fusion.unimodal(features).values(), self.fusion(features)])
            labels.append(batch["label"])
        label = torch.cat(labels)
        by_branch = [torch.cat(parts) for parts in zip(*logits, strict=True)]
        return torch.stack([self.task.loss(z, label) for z in by_branch])

    def _unimodal_losses(self, chunk: Batch) -> dict[str, Tensor]:
        return self.parts.unimodal_losses(self.fusion.unimodal(self.features(chunk)), chunk)

    def _joint_loss(self, chunk: Batch) -> dict[str, Tensor]:
        return {"joint": self.parts.loss(self.fusion(self.features(chunk)), chunk)}

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the weighted sum of the losses."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            losses = self.parts.unimodal_losses(self.fusion.unimodal(features), chunk)
            losses["joint"] = self.parts.loss(self.fusion(features), chunk)
            return {
                name: weight * loss
                for weight, (name, loss) in zip(self.weights, losses.items(), strict=True)
            }

        return self.step_on(batch, losses_of)
