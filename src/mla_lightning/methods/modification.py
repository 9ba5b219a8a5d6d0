"""Head gradient modification: its settings, and what they build."""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch import nn

from mla_lightning.errors import ConfigError, near
from mla_lightning.methods.head_gradient import Centred, Conflict, HeadGradient, OwnMomentum
from mla_lightning.methods.head_projection import MOMENTS, UPDATES, Memory, Recursion
from mla_lightning.parts import Parts

#: Rules without a projector.
RULES = ("conflict", "centred", "own_momentum")
MODES = (*UPDATES, *MOMENTS, *RULES)
#: The ridge term: the released code starts its schedule there.
ALPHA = 0.1


@dataclass(frozen=True)
class Settings:
    """The settings of a modification, named and meant as those of ``method=mla``."""

    projection: str = "others"
    alpha: float = ALPHA
    source: str = "previous"
    project_bias: bool = False
    project_update: bool = False
    reset_every: int | None = None
    forgetting: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is unknown; what is out of range or of no effect is for :meth:`check`."""
        if self.projection not in MODES:
            raise ConfigError(
                f"method.projection={self.projection!r} is unknown.{near(self.projection, MODES)} "
                f"Known: {', '.join(MODES)}; use method.hgm=false for no projection"
            )

    def given(self) -> list[str]:
        """Name the settings that are not at their defaults."""
        return [item.name for item in fields(self) if getattr(self, item.name) != item.default]

    def check(self) -> None:
        """Refuse values out of range and settings without effect.

        Raises:
            ConfigError: If there is one.
        """
        mode = f"method.projection={self.projection}"
        if self.forgetting is not None and self.projection not in MOMENTS:
            raise ConfigError(
                f"method.forgetting has no effect with {mode}; it is for {', '.join(MOMENTS)}"
            )
        if self.forgetting is not None and not 0 <= self.forgetting < 1:
            raise ConfigError(f"method.forgetting must be in [0, 1), got {self.forgetting}")
        if self.projection in RULES and self.given() != ["projection"]:
            raise ConfigError(
                f"{mode} has no projector: method.alpha, source, project_bias, project_update and "
                "reset_every have no effect"
            )
        if self.alpha <= 0:
            raise ConfigError(f"method.alpha must be > 0, got {self.alpha}")
        if self.source not in ("previous", "current"):
            raise ConfigError(f"method.source must be 'previous' or 'current', got {self.source!r}")
        knows_own = self.projection in UPDATES and self.projection != "others"
        if self.source == "current" and not knows_own:
            raise ConfigError(
                f"method.source=current has no effect with {mode}, which "
                "never remembers the modality's own features; add method.projection=owm"
            )
        if self.reset_every is not None and self.reset_every < 1:
            raise ConfigError(f"method.reset_every must be >= 1 or null, got {self.reset_every}")


def modification(settings: Settings, head: nn.Linear, parts: Parts) -> HeadGradient:
    """Build the modification that settings name.

    Args:
        settings: The settings, checked.
        head: The shared head.
        parts: What the method is composed of.

    Returns:
        The modification, before its first step.
    """
    mode, modalities = settings.projection, tuple(parts.encoders)
    if mode in UPDATES:
        return Recursion(modalities, head.in_features, settings)
    if mode in MOMENTS:
        return Memory(modalities, head.in_features, settings, parts.num_classes)
    if mode == "own_momentum":
        return OwnMomentum(modalities, parts.optimizer)
    return Conflict(modalities, head) if mode == "conflict" else Centred()
