"""MMPareto: Pareto integration of joint and unimodal gradients."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError, check_choice
from mla_lightning.functional import pareto_gradients
from mla_lightning.fusion.concat_heads import ConcatHeads
from mla_lightning.methods.mechanisms.apart import GradientsApart
from mla_lightning.methods.mechanisms.concat_fusions import with_own_heads
from mla_lightning.methods.mechanisms.encoder_gradients import own_parameters
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition

RESCALES = ("tensor", "encoder")


class MMPareto(MultimodalModule):
    """Joint and unimodal losses, whose gradients of an encoder are combined where they conflict.

    If the joint and the unimodal gradient of an encoder point apart, the shortest vector between
    them is taken, which lowers both losses; else their sum. Its length is restored to that of the
    sum and multiplied by ``gamma``, as noise of a larger step helps generalisation. Heads have the
    plain gradient of all losses.

    Whether there is a conflict is decided for a whole encoder. The released code restores the
    length for each parameter tensor (``rescale=tensor``); ``encoder`` does so for the whole
    encoder. Its bounds of 0.001 and 0.999 on the weights are never reached in a conflict.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> MMPareto(**parts).fusion.unimodal_rule
        'own_head'
        >>> encoder = torch.nn.Linear(3, 4)
        >>> MMPareto(**parts | {"encoders": {"left": encoder, "right": encoder}})
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: The encoders of 'left' and 'right' share parameters, ...
    """

    follows_task = True
    takes_ranks = True
    takes_incomplete = False
    default_fusion = ConcatHeads
    reference = Reference(
        "MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance",
        "ICML",
        2024,
        "https://arxiv.org/abs/2405.17730",
    )

    def __init__(
        self, *, gamma: float = 1.5, rescale: str = "tensor", **parts: Unpack[Composition]
    ) -> None:
        """Build the module.

        Args:
            gamma: Factor of the length of encoder gradients, > 0.
            rescale: Whether the length is restored for each parameter ``tensor`` or for the whole
                ``encoder``.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must have own heads.

        Raises:
            ConfigError: If a value is out of range, the fusion has no own head for each modality,
                or encoders share parameters or are all frozen.
        """
        if gamma <= 0:
            raise ConfigError(f"method.gamma must be > 0, got {gamma}; 1 restores the length only")
        check_choice("method.rescale", rescale, RESCALES)
        super().__init__(**parts)
        with_own_heads(self)
        own_parameters(self.encoders, otherwise="method=joint_unimodal")
        self.gamma, self.rescale = gamma, rescale

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the joint and the unimodal losses, with combined encoder gradients."""
        encoders = {
            name: [p for p in encoder.parameters() if p.requires_grad]
            for name, encoder in self.encoders.items()
        }
        of_unimodal = GradientsApart(self, encoders)

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            fused = self.fusion(features)
            unimodal = self.parts.unimodal_losses(self.fusion.unimodal(features), chunk)
            of_unimodal.add(unimodal.values(), chunk)
            return {"joint": self.parts.loss(fused, chunk), **unimodal}

        def combine() -> None:
            for name, unimodal in of_unimodal.gradients().items():
                pairs = [
                    (p.grad, u)
                    for p, u in zip(encoders[name], unimodal, strict=True)
                    if p.grad is not None
                ]
                if not pairs:
                    continue
                total, own = zip(*pairs, strict=True)
                is_per_tensor = self.rescale == "tensor"
                combined = pareto_gradients(total, own, self.gamma, per_tensor=is_per_tensor)
                for gradient, value in zip(total, combined, strict=True):
                    gradient.copy_(value)

        return self.step_on(batch, losses_of, edit_grads=combine)
