"""Each modality alone: the reference that shows laziness."""

from __future__ import annotations

from typing import Unpack

from mla_lightning.errors import ConfigError
from mla_lightning.methods.late_fusion import LateFusion
from mla_lightning.parts import Composition


class Unimodal(LateFusion):
    """Each modality trained, and its epoch selected, as if the others did not exist.

    Encoders and heads share nothing, so training them side by side changes no number. Each
    modality is evaluated at its own best epoch; ``multi`` is the mean of these models' logits, an
    ensemble of unimodal models.
    """

    min_modalities = 1

    def __init__(self, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            **parts: As :class:`~mla_lightning.parts.Composition` names them; the fusion
                keeps one head per modality.

        Raises:
            ConfigError: If the fusion has a weighting: each modality answers for itself.
        """
        super().__init__(**parts)
        if getattr(self.fusion, "weighting", "mean") != "mean":
            raise ConfigError(
                "method.fusion.weighting has no effect on Unimodal, whose modalities are models of "
                "their own; use method=late_fusion"
            )

    def selections(self) -> dict[str, str]:
        """Select every modality by its own accuracy."""
        return {name: f"acc/{name}" for name in self.modalities}
