"""Construction of the modification of the head gradient from its settings."""

from __future__ import annotations

from torch import nn

from mla_lightning.errors import ConfigError
from mla_lightning.methods.head.projection import Memory, Recursion, ReleasedRecursion
from mla_lightning.methods.head.rules import Centred, Conflict, HeadGradient, OwnMomentum
from mla_lightning.methods.head.settings import MOMENTS, UPDATES, Settings
from mla_lightning.parts import Parts


def build_modification(settings: Settings, head: nn.Linear, parts: Parts) -> HeadGradient:
    """Build the modification that the settings name.

    Args:
        settings: The settings, checked.
        head: The shared head.
        parts: The method's parts.

    Returns:
        The modification, before the first step.

    Raises:
        ConfigError: If it needs classes and the task has none.
    """
    mode, modalities = settings.projection, tuple(parts.encoders)
    if mode == "class_means" and not parts.task.has_classes:
        raise ConfigError(
            f"method.projection=class_means is not for {parts.task.name}: it needs one class per "
            "sample. Use method.projection=means or moments."
        )
    if mode == "released_formula" and settings.source == "current":
        return ReleasedRecursion(modalities, head.in_features, settings)
    if mode in UPDATES:
        return Recursion(modalities, head.in_features, settings)
    if mode in MOMENTS:
        return Memory(modalities, head.in_features, settings, parts.num_classes)
    if mode == "own_momentum":
        return OwnMomentum(modalities, parts.optimizer)
    return Conflict(modalities, head) if mode == "conflict" else Centred()
