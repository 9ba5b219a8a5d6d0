"""MLB: multi-loss balanced training."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional import mlb_coefficients
from mla_lightning.fusion.concat_heads import ConcatHeads
from mla_lightning.methods.mechanisms.concat_fusions import with_own_heads
from mla_lightning.methods.mechanisms.encoder_gradients import own_parameters, scale_gradients
from mla_lightning.methods.mechanisms.scores import BatchScores
from mla_lightning.methods.mechanisms.window import Window
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition


class MLB(MultimodalModule):
    """Joint and unimodal losses; who leads is slowed, and who is behind is sped up.

    For each batch, the score of a modality is the mean probability of the true class by its own
    head; in other tasks the mean of exp(-loss). With the ratio rho of the others' mean score to its
    own, the gradients of a modality's encoder, of its own head and of its columns of the joint head
    are multiplied by ``1 + tanh(alpha * (rho - 1))``. The factor tends to 1 as the scores become
    equal. For three and more modalities the mean of the others is the released code's rule.

    The classes of the released code that train it use a name that is not defined, so none can be
    built, and there is no run of that code to compare with. Optimisers that divide gradients by
    their size, such as Adam, nearly cancel factors that vary slowly.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> [len(parameters) for parameters in MLB(**parts).modulated.values()]  # own head included
        [4, 4]
        >>> MLB(unimodal_weight=0.0, **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.unimodal_weight must be > 0, got 0.0; without
        unimodal losses there are no trained heads to compare. Use method=ogm
    """

    follows_task = True
    takes_ranks = True
    takes_incomplete = False
    default_fusion = ConcatHeads
    fusion: ConcatHeads
    reference = Reference(
        "Improving Multimodal Learning with Multi-Loss Gradient Modulation",
        "BMVC",
        2024,
        "https://arxiv.org/abs/2405.07930",
    )

    def __init__(
        self,
        *,
        alpha: float = 0.8,
        beta: float | None = None,
        unimodal_weight: float = 1.0,
        start_epoch: int = 0,
        end_epoch: int | None = None,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            alpha: Strength of the modulation, >= 0. With 0 this is joint training with unimodal
                losses of own heads.
            beta: Largest factor of a modality that is behind, >= 1; None for 2.
            unimodal_weight: Weight of each modality's own loss, > 0.
            start_epoch: First epoch that is modulated, from 0.
            end_epoch: Last epoch that is modulated, None for all.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must have own heads.

        Raises:
            ConfigError: If a value is out of range or has no effect, or the fusion has no own head
                for each modality.
        """
        if alpha < 0:
            raise ConfigError(f"method.alpha must be >= 0, got {alpha}")
        if beta is not None and beta < 1:
            raise ConfigError(
                f"method.beta must be >= 1, got {beta}: a modality that is behind is never slowed. "
                "1 leaves it alone, null is 2."
            )
        if beta is not None and alpha == 0:
            raise ConfigError("method.beta has no effect with method.alpha=0: nothing is modulated")
        if unimodal_weight <= 0:
            raise ConfigError(
                f"method.unimodal_weight must be > 0, got {unimodal_weight}; without unimodal "
                "losses there are no trained heads to compare. Use method=ogm"
            )
        self.window = Window(start_epoch, end_epoch)
        super().__init__(**parts)
        heads = with_own_heads(self).heads
        self.alpha, self.beta, self.unimodal_weight = alpha, beta, unimodal_weight
        self.modulated = {
            name: [*parameters, *heads[name].parameters()]
            for name, parameters in own_parameters(self.encoders).items()
        }

    def on_train_start(self) -> None:
        """Check that there is an epoch to modulate."""
        self.window.check_reached(self.trainer.max_epochs, otherwise="method=joint_unimodal")

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the joint and the unimodal losses, with modulated gradients."""
        is_modulated = self.current_epoch in self.window
        scores = BatchScores(self.task)

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            fused, own = self.fusion(features), self.fusion.unimodal(features)
            if is_modulated:
                scores.add(own, chunk)
            unimodal = self.parts.unimodal_losses(own, chunk)
            weighted = {name: self.unimodal_weight * loss for name, loss in unimodal.items()}
            return {"joint": self.parts.loss(fused, chunk), **weighted}

        def modulate() -> None:
            coefficients = mlb_coefficients(scores.mean(), self.alpha, self.beta)
            scale_gradients(self.modulated.values(), coefficients)
            joint = self.fusion.head.weight.grad
            assert joint is not None
            for columns, k in zip(self.fusion.columns(joint).values(), coefficients, strict=True):
                columns.mul_(k)

        return self.step_on(batch, losses_of, edit_grads=modulate if is_modulated else None)
