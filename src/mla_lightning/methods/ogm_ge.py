"""OGM-GE: slow down the modality that leads, and shake its gradient."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError, near
from mla_lightning.functional import ogm_coefficients, unimodal_scores
from mla_lightning.fusion.concat import Concat
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition

PARAM_FILTERS = {"all": 0, "ndim>=2": 2, "conv": 4}


class OGMGE(MultimodalModule):
    """Joint training whose encoder gradients are damped where a modality is ahead, plus noise.

    Per batch, every modality's score is the summed probability of the true class under its own
    logits; a modality whose score exceeds the mean of the others' gets its encoder's gradient
    multiplied by ``1 - tanh(alpha * ratio)``. Generalisation enhancement (GE) adds Gaussian noise
    with the standard deviation of each tensor's gradient to every modality's encoder.

    The paper modulates the encoders' parameters. The released code touches 4-D tensors only
    (``param_filter=conv``), which makes it do nothing on transformers without convolutions.
    """

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
            alpha: Strength of the damping, >= 0. With 0 and no noise this is joint training.
            noise: Add the noise (GE).
            start_epoch: First epoch, from 0, that is modulated.
            end_epoch: Last epoch that is modulated, None for all.
            param_filter: ``all`` of an encoder's parameters, ``ndim>=2``, or ``conv`` (4-D only).
            **parts: As :class:`~mla_lightning.parts.Composition` names them.

        Raises:
            ConfigError: If a value is out of range or the filter selects no parameter at all.
        """
        if alpha < 0:
            raise ConfigError(f"method.alpha must be >= 0, got {alpha}")
        if end_epoch is not None and end_epoch < start_epoch:
            raise ConfigError(f"method.end_epoch={end_epoch} lies before start_epoch={start_epoch}")
        if param_filter not in PARAM_FILTERS:
            raise ConfigError(
                f"method.param_filter={param_filter!r} is unknown."
                f"{near(param_filter, PARAM_FILTERS)} Known: {', '.join(PARAM_FILTERS)}"
            )
        super().__init__(**parts)
        self.alpha, self.noise = alpha, noise
        self.start_epoch, self.end_epoch = start_epoch, end_epoch
        self.modulated = {
            name: [p for p in encoder.parameters() if _selected(p, param_filter)]
            for name, encoder in self.encoders.items()
        }
        if not any(self.modulated.values()):
            raise ConfigError(
                f"method.param_filter={param_filter!r} selects no parameter of these encoders, so "
                "the method would be joint training. Use param_filter=all."
            )

    def on_train_start(self) -> None:
        """Check that there is an epoch to modulate."""
        most = self.trainer.max_epochs or 0
        if self.start_epoch >= most:
            raise ConfigError(
                f"method.start_epoch={self.start_epoch} (from 0) is never reached in "
                f"trainer.max_epochs={most}, so this would be joint training"
            )

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the fused loss, with modulated encoder gradients."""
        last = float("inf") if self.end_epoch is None else self.end_epoch
        active = self.start_epoch <= self.current_epoch <= last
        scores = torch.zeros(len(self.modalities), device=self.device)

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            if active:
                with torch.no_grad():
                    own = self.fusion.unimodal(features)
                    logits = torch.stack([own[name] for name in self.modalities])
                    scores.add_(unimodal_scores(logits.float(), chunk["label"]))
            return {"joint": cross_entropy(self.fusion(features), chunk["label"])}

        def modulate() -> None:
            coefficients = ogm_coefficients(scores, self.alpha)
            for name, coefficient in zip(self.modalities, coefficients, strict=True):
                for parameter in self.modulated[name]:
                    if parameter.grad is not None:
                        self._modulate(parameter.grad, coefficient)

        return self.step_on(batch, losses_of, edit_grads=modulate if active else None)

    def _modulate(self, gradient: Tensor, coefficient: Tensor) -> None:
        # Noise is drawn for every modality and measured on the gradient before it is damped.
        noise = None
        if self.noise and gradient.numel() > 1:
            noise = torch.randn_like(gradient).mul_(gradient.std() + 1e-8)
        gradient.mul_(coefficient)
        if noise is not None:
            gradient.add_(noise)


def _selected(parameter: Tensor, param_filter: str) -> bool:
    least = PARAM_FILTERS[param_filter]
    return parameter.ndim == 4 if param_filter == "conv" else parameter.ndim >= least
