"""Settings of the modification of the head gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from torch import Tensor

from mla_lightning.errors import ConfigError, near
from mla_lightning.functional import (
    class_moment,
    mean_moment,
    second_moment,
    update_projector_,
    update_projector_frobenius_,
    update_projector_released_,
    update_projector_unit_,
)

#: Mode -> in-place update of the recursion's projector: (projector, mean feature, alpha).
UPDATES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "owm": update_projector_,
    "others": update_projector_,
    "owm_fro": update_projector_frobenius_,
    "owm_unit": update_projector_unit_,
    "released_formula": update_projector_released_,
}
#: Mode -> moment of a modality's features that its memory keeps: (features, labels, num_classes).
MOMENTS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "means": mean_moment,
    "moments": second_moment,
    "class_means": class_moment,
}
#: Modes without a projector.
RULES = ("conflict", "centred", "own_momentum")
MODES = (*UPDATES, *MOMENTS, *RULES)
#: Default of the ridge term: the first value of the released code's schedule.
ALPHA = 0.1


@dataclass(frozen=True)
class Settings:
    """Settings of a modification, with the names and meaning of those of ``method=mla``.

    Example:
        >>> Settings(projection="owm", alpha=0.5).changed_names()
        ['projection', 'alpha']
        >>> Settings(projection="conflict", alpha=0.5).check()
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.projection=conflict has no projector: method.alpha,
        source, project_bias, project_update and reset_every have no effect
    """

    projection: str = "others"
    alpha: float = ALPHA
    source: str = "previous"
    project_bias: bool = False
    project_update: bool = False
    reset_every: int | None = None
    forgetting: float | None = None

    def __post_init__(self) -> None:
        """Check that the projection is known; :meth:`check` checks everything else."""
        if self.projection not in MODES:
            raise ConfigError(
                f"method.projection={self.projection!r} is unknown.{near(self.projection, MODES)} "
                f"Known: {', '.join(MODES)}; use method.hgm=false for no projection"
            )

    def changed_names(self) -> list[str]:
        """Return the names of the settings that are not at their defaults."""
        return [item.name for item in fields(self) if getattr(self, item.name) != item.default]

    def check(self) -> None:
        """Check that values are in range and settings have an effect.

        Raises:
            ConfigError: If one is not, or has none.
        """
        mode = f"method.projection={self.projection}"
        if self.forgetting is not None and self.projection not in MOMENTS:
            raise ConfigError(
                f"method.forgetting has no effect with {mode}; it is for {', '.join(MOMENTS)}"
            )
        if self.forgetting is not None and not 0 <= self.forgetting < 1:
            raise ConfigError(f"method.forgetting must be in [0, 1), got {self.forgetting}")
        if self.projection in RULES and self.changed_names() != ["projection"]:
            raise ConfigError(
                f"{mode} has no projector: method.alpha, source, project_bias, project_update and "
                "reset_every have no effect"
            )
        if self.alpha <= 0:
            raise ConfigError(f"method.alpha must be > 0, got {self.alpha}")
        if self.source not in ("previous", "current"):
            raise ConfigError(f"method.source must be 'previous' or 'current', got {self.source!r}")
        remembers_own = self.projection in UPDATES and self.projection != "others"
        if self.source == "current" and not remembers_own:
            raise ConfigError(
                f"method.source=current has no effect with {mode}, which "
                "never remembers the modality's own features; add method.projection=owm"
            )
        if self.reset_every is not None and self.reset_every < 1:
            raise ConfigError(f"method.reset_every must be >= 1 or null, got {self.reset_every}")
