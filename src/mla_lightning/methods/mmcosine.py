"""MMCosine: joint training on sums of cosines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

from mla_lightning.errors import ConfigError
from mla_lightning.fusion.cosine import Cosine
from mla_lightning.methods.joint import Joint
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition


class MMCosine(Joint):
    """Joint training whose logits are sums of scaled cosines, so that no norm can dominate.

    The training rule is that of joint training; all of the method is in its fusion, ``cosine``. The
    released code has an optional contrastive term of weight 0, which is left out.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from mla_lightning.fusion import Concat
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> MMCosine(**parts).fusion.scale
        10.0
        >>> MMCosine(fusion=Concat, **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: with fusion Concat this is joint training. Use
        fusion@method.fusion=cosine, or method=concat.
    """

    follows_task = True
    takes_ranks = True
    default_fusion = Cosine  # type: ignore[assignment]
    not_for: Mapping[str, str] = {
        "regression": "a cosine has no unit, and is bounded. Use method=concat or method=sum"
    }
    reference = Reference(
        "MMCosine: Multi-Modal Cosine Loss Towards Balanced Audio-Visual Fine-Grained Learning",
        "ICASSP",
        2023,
        "https://arxiv.org/abs/2303.05338",
    )

    def __init__(self, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be the cosine fusion.

        Raises:
            ConfigError: If the fusion is another one.
        """
        super().__init__(**parts)
        if not isinstance(self.fusion, Cosine):
            raise ConfigError(
                f"with fusion {type(self.fusion).__name__} this is joint training. Use "
                "fusion@method.fusion=cosine, or method=concat."
            )
