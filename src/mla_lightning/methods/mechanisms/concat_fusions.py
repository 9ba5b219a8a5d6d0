"""The fusions with a linear joint head, whose parts a training rule looks at."""

from __future__ import annotations

from mla_lightning.errors import ConfigError
from mla_lightning.fusion.concat import Concat
from mla_lightning.fusion.concat_heads import ConcatHeads
from mla_lightning.module import MultimodalModule


def with_slices(module: MultimodalModule) -> Concat:
    """Return a method's fusion, whose joint head also gives each modality's own logits.

    Args:
        module: The method.

    Raises:
        ConfigError: If it is another fusion, with the one to use.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from mla_lightning.methods import Joint
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> with_slices(Joint(fusion=Concat, **parts)).head
        Linear(in_features=8, out_features=2, bias=True)
        >>> with_slices(Joint(fusion=ConcatHeads, **parts))
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: Joint takes each modality's columns of one joint head,
        which fusion ConcatHeads does not report. Use fusion@method.fusion=concat.
    """
    fusion = module.fusion
    if not isinstance(fusion, Concat) or fusion.unimodal_rule not in Concat.RULES:
        raise ConfigError(
            f"{type(module).__name__} takes each modality's columns of one joint head, which "
            f"fusion {type(fusion).__name__} does not report. Use fusion@method.fusion=concat."
        )
    return fusion


def with_own_heads(module: MultimodalModule) -> ConcatHeads:
    """Return a method's fusion, which has a head of its own for each modality.

    Args:
        module: The method.

    Raises:
        ConfigError: If it is another fusion, with the one to use.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from mla_lightning.methods import Joint
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> list(with_own_heads(Joint(fusion=ConcatHeads, **parts)).heads)
        ['audio', 'visual']
        >>> with_own_heads(Joint(fusion=Concat, **parts))
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: Joint needs a head of its own for each modality beside the
        joint one, and fusion Concat has none. Use fusion@method.fusion=concat_heads.
    """
    fusion = module.fusion
    if not isinstance(fusion, ConcatHeads):
        raise ConfigError(
            f"{type(module).__name__} needs a head of its own for each modality beside the joint "
            f"one, and fusion {type(fusion).__name__} has none. Use "
            "fusion@method.fusion=concat_heads."
        )
    return fusion
