"""DGL: disentangled gradient learning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Unpack

from torch import Tensor, nn

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.fusion.concat import Concat
from mla_lightning.fusion.concat_heads import ConcatHeads
from mla_lightning.methods.mechanisms.encoder_gradients import check_trained
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition

#: Rules by which a modality's own logits are read through the fusion.
RULES = ("zero_feature", "slice", "own_head")


class DGL(MultimodalModule):
    r"""Encoders learn from their own logits alone, and the fusion from features held fixed.

    The gradient that a fusion sends to an encoder depends on what the other modalities already
    explain, and suppresses the encoders. DGL cuts it. Its loss is
    :math:`\ell(z(\bar h_1, \dots, \bar h_M)) + \lambda \sum_m \ell(\bar z(0, h_m, 0))`, where a bar
    marks what is held fixed: features in the first term, the fusion's parameters in the others. So
    the encoders are trained as in late fusion, and the fusion like a probe on them. The released
    code computes it in two backward passes, which gives the same gradient.

    With ``own_heads`` a modality's own logits come from a head of its own, trained on them. The
    authors train with SGD at 2e-3, a gradient norm of at most 40, and a ``unimodal_weight`` of 4 or
    5 on CREMA-D, of 2 or 3 on Kinetics-Sounds; they advise to tune it again for each version of the
    software. They also report lower numbers with torch 2 than before, for a reason that they do not
    know; that has not been verified here.

    Example:
        >>> import torch
        >>> parts = {
        ...     "encoders": {"audio": nn.Linear(3, 4), "visual": nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> DGL(**parts).fusion.unimodal_rule
        'zero_feature'
        >>> DGL(unimodal_weight=0.0, **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.unimodal_weight must be > 0, got 0.0; without
        unimodal losses the encoders would never learn
    """

    follows_task = True
    takes_ranks = True
    default_fusion = partial(Concat, unimodal_rule="zero_feature")
    reference = Reference(
        "Boosting Multimodal Learning via Disentangled Gradient Learning",
        "ICCV",
        2025,
        "https://arxiv.org/abs/2507.10213",
    )

    def __init__(
        self,
        *,
        unimodal_weight: float = 4.0,
        own_heads: bool = False,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            unimodal_weight: Weight lambda of each modality's own loss, > 0.
            own_heads: Whether own logits come from heads of their own, of ``concat_heads``.
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If ``unimodal_weight`` is not positive, the fusion has no rule by which a
                modality is read through it, or all encoders are frozen.
        """
        if unimodal_weight <= 0:
            raise ConfigError(
                f"method.unimodal_weight must be > 0, got {unimodal_weight}; without unimodal "
                "losses the encoders would never learn"
            )
        super().__init__(**parts)
        has_heads, rule = isinstance(self.fusion, ConcatHeads), self.fusion.unimodal_rule
        if own_heads and not has_heads:
            raise ConfigError(
                f"method.own_heads=true needs heads beside the joint one, which fusion "
                f"{type(self.fusion).__name__} has not. Use fusion@method.fusion=concat_heads."
            )
        if has_heads and not own_heads:
            raise ConfigError(
                "method.own_heads=false would leave the own heads of fusion concat_heads "
                "untrained. Use method.own_heads=true, or fusion@method.fusion=concat_zero."
            )
        if rule not in RULES:
            raise ConfigError(
                f"fusion {type(self.fusion).__name__} has the rule {rule!r} for a single modality, "
                f"and DGL needs one of {', '.join(RULES)}. Use fusion@method.fusion=concat_zero."
            )
        with_heads = "method=joint_unimodal fusion@method.fusion=concat_heads"
        check_trained(self.encoders, with_heads if own_heads else "method=concat")
        self.unimodal_weight, self.own_heads = unimodal_weight, own_heads

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step, in which no gradient passes from the fusion to the encoders."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            fixed = {name: h.detach() for name, h in features.items()}
            fused = self.fusion(fixed, self.parts.presence(chunk))
            if self.own_heads:
                own = self.fusion.unimodal(features)
            else:
                with held_fixed(self.fusion):
                    own = self.fusion.unimodal(features)
            losses = self.parts.unimodal_losses(own, chunk)
            weighted = {name: self.unimodal_weight * loss for name, loss in losses.items()}
            return {"joint": self.parts.loss(fused, chunk), **weighted}

        return self.step_on(batch, losses_of)


@contextmanager
def held_fixed(module: nn.Module) -> Iterator[None]:
    """Compute without gradients of a module's parameters within the context.

    Gradients still pass through it to its inputs.

    Args:
        module: The module.

    Example:
        >>> import torch
        >>> layer, h = nn.Linear(2, 1), torch.ones(1, 2, requires_grad=True)
        >>> with held_fixed(layer):
        ...     z = layer(h)
        >>> z.backward()
        >>> layer.weight.grad is None, h.grad is None
        (True, False)
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
