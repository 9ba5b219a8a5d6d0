"""AGM: adaptive gradient modulation."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Unpack

import torch
from torch import Tensor, nn

from mla_lightning import ranks
from mla_lightning.batch import Batch, num_in_batch
from mla_lightning.errors import ConfigError, check_choice
from mla_lightning.functional import agm_coefficients, shapley_values, subsets
from mla_lightning.fusion.concat import Concat
from mla_lightning.methods.mechanisms.modes import evaluation_mode
from mla_lightning.methods.mechanisms.window import Window
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition
from mla_lightning.run_folder.columns import MULTI

#: Largest loss of a sample: that of a probability of 1e-8.
LARGEST_LOSS = -log(1e-8)
ABSENT, SIGNS = ("feature", "input"), ("paper", "balancemm")


class AGM(MultimodalModule):
    r"""Joint training in which the gradient of each modality's part of the logits is scaled.

    The fused logits are split into a part :math:`\varphi_m` per modality, its Shapley value over
    all subsets of the modalities, for any fusion. For each batch the losses of the parts are
    compared with their means over all earlier batches: the gradient that enters the part of a
    modality that leads by more than so far is multiplied by less than 1, of one that leads by less,
    by more than 1.

    ``absent`` says what stands for a modality outside of a subset. ``feature``: a feature of zeros,
    so that encoders run once. ``input``: an input of zeros, as in the released code, whose subsets
    are computed in evaluation mode; encoders then run three times, as no encoder reads two
    modalities. With both the fusion runs once per subset, 2^M - 1 times, so that a large fusion of
    many modalities is slow. The value of the empty subset is 0.

    For more than two modalities the authors' formula is applied to the mean of the others' losses.
    In other tasks than classification, the loss of a sample takes the place of the cross-entropy.

    Example:
        The parts add up to the fused logits:

        >>> from functools import partial
        >>> from mla_lightning.batch import as_batch
        >>> parts = {
        ...     "encoders": {"audio": nn.Linear(3, 4), "visual": nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> method = AGM(**parts)
        >>> inputs = {"audio": torch.randn(6, 3), "visual": torch.randn(6, 5)}
        >>> logits = method.evaluate_batch(as_batch(inputs, method.modalities, needs=()))
        >>> torch.allclose(logits["multi"], logits["audio"] + logits["visual"], atol=1e-6)
        True
        >>> AGM(absent="features", **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.absent='features' is unknown. Did you mean
        'feature'? Known: feature, input
    """

    follows_task = True
    takes_ranks = True
    takes_chunks = False  # the coefficients must be known before the gradients of the batch
    takes_incomplete = False
    default_fusion = Concat
    unimodal_rule = "shapley"
    reference = Reference(
        "Boosting Multi-modal Model Performance with Adaptive Gradient Modulation",
        "ICCV",
        2023,
        "https://arxiv.org/abs/2308.07686",
    )

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        start_epoch: int = 0,
        end_epoch: int | None = 20,
        absent: str = "feature",
        head_clip: float | None = 1.0,
        sign: str = "paper",
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            alpha: Strength of the modulation, >= 0.
            start_epoch: First epoch that is modulated, from 0.
            end_epoch: Last epoch that is modulated, None for all.
            absent: What is zero for an absent modality, its ``feature`` or its ``input``.
            head_clip: Where an entry of the gradient of the fusion's matrices is larger than this,
                the gradient of all parameters is clipped to this norm; None for never. A frozen
                fusion has no such entry.
            sign: ``paper``, or ``balancemm`` for exponents of the other sign.
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If a value is out of range.
        """
        if alpha < 0:
            raise ConfigError(f"method.alpha must be >= 0, got {alpha}")
        if head_clip is not None and head_clip <= 0:
            raise ConfigError(f"method.head_clip must be > 0, or null for none, got {head_clip}")
        for option, value, known in (("absent", absent, ABSENT), ("sign", sign, SIGNS)):
            check_choice(f"method.{option}", value, known)
        self.window = Window(start_epoch, end_epoch)
        super().__init__(**parts)
        self.alpha, self.absent, self.head_clip, self.sign = alpha, absent, head_clip, sign
        #: Mean loss of each modality's part over all batches so far (M,), and their number.
        self.tau: Tensor
        self.num_batches: Tensor
        self.register_buffer("tau", torch.zeros(len(self.modalities)))
        self.register_buffer("num_batches", torch.tensor(0))

    def on_train_start(self) -> None:
        """Check that there is an epoch to modulate."""
        self.window.check_reached(self.trainer.max_epochs)

    def on_train_epoch_start(self) -> None:
        """Begin a training with no earlier batch, whatever training the weights come from."""
        super().on_train_epoch_start()
        if self.trainer.global_step == 0:
            self.tau.zero_()
            self.num_batches.zero_()

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the fused loss, with scaled gradients of the parts."""
        end = self.window.end_epoch
        is_over = end is not None and self.current_epoch > end
        losses_of = self._joint_loss if is_over else self._modulated_loss
        edit = None if self.head_clip is None else self._clip_by_head
        return self.step_on(batch, losses_of, edit_grads=edit)

    def _joint_loss(self, batch: Batch) -> dict[str, Tensor]:
        return {"joint": self.parts.loss(self.fusion(self.features(batch)), batch)}

    def _modulated_loss(self, batch: Batch) -> dict[str, Tensor]:
        features = self.features(batch)
        phi_MBC = self._shapley(batch, features, self.fusion(features))
        kappa_M = self._next_coefficients(phi_MBC.detach(), batch)
        if self.current_epoch in self.window:
            phi_MBC.register_hook(lambda gradient: gradient * kappa_M.to(gradient)[:, None, None])
        return {"joint": self.parts.loss(phi_MBC.sum(dim=0), batch)}

    def _next_coefficients(self, phi_MBC: Tensor, batch: Batch) -> Tensor:
        """Compute the coefficients (M,) of a batch, and add its losses to the running means."""
        with self.full_precision():
            losses = [self.task.sample_losses(phi, batch["label"]) for phi in phi_MBC]
            sums_M = torch.stack([loss.clamp(max=LARGEST_LOSS).sum() for loss in losses])
            sigma_M = (ranks.total(sums_M) / num_in_batch(batch)).to(self.tau)
            reverse = self.sign == "balancemm"
            kappa_M = agm_coefficients(sigma_M, self.tau, self.alpha, rewards_leader=reverse)
            self.num_batches += 1
            self.tau += (sigma_M - self.tau) / self.num_batches
        return kappa_M

    def _shapley(self, batch: Batch, features: Mapping[str, Tensor], fused: Tensor) -> Tensor:
        """Split the fused logits of a batch into the modalities' parts (M, B, C)."""
        if self.absent == "feature":
            return self._parts_of(features, zeros_of(features), fused)
        with evaluation_mode(self):
            features = self.features(batch)
            zeros = {
                name: self.encoders[name](x.new_zeros((1, *x.shape[1:]))).expand_as(features[name])
                for name, x in batch["inputs"].items()
            }
            return self._parts_of(features, zeros, fused)

    def _parts_of(
        self, features: Mapping[str, Tensor], absent: Mapping[str, Tensor], fused: Tensor
    ) -> Tensor:
        """Compute Shapley values, given the fused logits and the features of absent modalities."""
        values = {frozenset[int](): torch.zeros_like(fused)}
        *smaller, everything = subsets(len(self.modalities))
        for subset in smaller[1:]:
            values[subset] = self.fusion(
                {
                    name: (features if m in subset else absent)[name]
                    for m, name in enumerate(self.modalities)
                }
            )
        return shapley_values({**values, everything: fused})

    def _clip_by_head(self) -> None:
        """Clip the norm of all gradients where the fusion's have a large entry."""
        assert self.head_clip is not None
        matrices = [p.grad for p in self.fusion.parameters() if p.grad is not None and p.ndim > 1]
        if not matrices:  # the fusion is frozen
            return
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        largest = torch.stack([gradient.abs().amax() for gradient in matrices]).amax()
        factor = (self.head_clip / (nn.utils.get_total_norm(gradients) + 1e-6)).clamp(max=1)
        factor = torch.where(largest > self.head_clip, factor, torch.ones_like(factor))
        for gradient in gradients:
            gradient.mul_(factor)

    def logits(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the fused logits, and their parts by features of zeros."""
        fused = self.fusion(features, present)
        parts = self._parts_of(features, zeros_of(features), self.fusion(features))
        return {MULTI: fused, **dict(zip(self.modalities, parts, strict=True))}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the fused logits, and their parts by features or inputs of zeros."""
        features = self.features(batch)
        if self.absent == "feature":
            return self.logits(features, batch["present"])
        fused = self.fusion(features, batch["present"])
        parts = self._shapley(batch, features, self.fusion(features))
        return {MULTI: fused, **dict(zip(self.modalities, parts, strict=True))}


def zeros_of(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return features of zeros, of the same shapes.

    Example:
        >>> zeros_of({"audio": torch.ones(1, 2)})
        {'audio': tensor([[0., 0.]])}
    """
    return {name: torch.zeros_like(h) for name, h in features.items()}
