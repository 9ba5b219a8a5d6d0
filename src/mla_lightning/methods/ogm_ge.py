"""OGM-GE: on-the-fly gradient modulation with generalisation enhancement."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional import ogm_coefficients
from mla_lightning.fusion.concat import Concat
from mla_lightning.methods.mechanisms.encoder_gradients import (
    encoders_with_adapters,
    own_parameters,
    selected_parameters,
)
from mla_lightning.methods.mechanisms.scores import BatchScores
from mla_lightning.methods.mechanisms.window import Window
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition


class OGMGE(MultimodalModule):
    """Joint training with smaller encoder gradients for the dominant modality, plus noise.

    For each batch, the score of a modality is the sum of the probabilities of the true class by its
    own logits; in other tasks the sum of exp(-loss) of the samples, which is the same for
    cross-entropy. If a modality's score exceeds the mean of the others', its encoder's gradient is
    multiplied by ``1 - tanh(alpha * ratio)``. Generalisation enhancement (GE) adds Gaussian noise
    to every encoder's gradient, with the standard deviation of each gradient tensor. The adapter of
    a shared head is part of its modality's encoder.

    The paper modulates all parameters of the encoders. The released code modulates 4-D tensors only
    (``param_filter=conv``), so it does nothing on transformers without convolutions.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> method = OGMGE(**parts)
        >>> [parameter.shape for parameter in method.modulated["audio"]]
        [torch.Size([4, 3]), torch.Size([4])]
        >>> OGMGE(param_filter="conv", **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.param_filter='conv' selects no trained parameter of
        these encoders, so the method would be joint training. Use param_filter=all.
    """

    follows_task = True
    takes_ranks = True
    default_fusion = Concat
    reference = Reference(
        "Balanced Multimodal Learning via On-the-fly Gradient Modulation",
        "CVPR",
        2022,
        "https://arxiv.org/abs/2203.15332",
    )

    takes_incomplete = False

    def __init__(
        self,
        *,
        alpha: float = 0.8,
        noise: bool = True,
        start_epoch: int = 0,
        end_epoch: int | None = 50,
        param_filter: str = "all",
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            alpha: Strength of the modulation, >= 0. With 0 and no noise this is joint training.
            noise: Whether noise is added (GE).
            start_epoch: First epoch that is modulated, from 0.
            end_epoch: Last epoch that is modulated, None for all.
            param_filter: Which of an encoder's parameters are modulated: ``all``, ``ndim>=2`` (no
                biases), or ``conv`` (4-D only).
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If a value is out of range, encoders share parameters or are all frozen, or
                the filter selects no parameter at all.
        """
        if alpha < 0:
            raise ConfigError(f"method.alpha must be >= 0, got {alpha}")
        self.window = Window(start_epoch, end_epoch)
        super().__init__(**parts)
        self.alpha, self.noise = alpha, noise
        encoders = encoders_with_adapters(self.encoders, self.fusion)
        own_parameters(encoders, otherwise="method=concat")
        self.modulated = selected_parameters(encoders, param_filter)

    def on_train_start(self) -> None:
        """Check that there is an epoch to modulate."""
        self.window.check_reached(self.trainer.max_epochs)

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the fused loss, with modulated encoder gradients."""
        is_modulated = self.current_epoch in self.window
        scores = BatchScores(self.task)

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            if is_modulated:
                scores.add(self.fusion.unimodal(features), chunk)
            return {"joint": self.parts.loss(self.fusion(features), chunk)}

        def modulate() -> None:
            coefficients = ogm_coefficients(scores.total(), self.alpha)
            for name, coefficient in zip(self.modalities, coefficients, strict=True):
                for parameter in self.modulated[name]:
                    if parameter.grad is not None:
                        self._modulate(parameter.grad, coefficient)

        return self.step_on(batch, losses_of, edit_grads=modulate if is_modulated else None)

    def _modulate(self, gradient: Tensor, coefficient: Tensor) -> None:
        # The noise has the deviation of the gradient before it is multiplied.
        noise = None
        if self.noise and gradient.numel() > 1:
            noise = torch.randn_like(gradient).mul_(gradient.std() + 1e-8)
        gradient.mul_(coefficient)
        if noise is not None:
            gradient.add_(noise)
