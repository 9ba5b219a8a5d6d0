"""Unimodal training: each modality alone, the reference of every comparison."""

from __future__ import annotations

from typing import Unpack

from mla_lightning.errors import ConfigError
from mla_lightning.methods.late_fusion import LateFusion
from mla_lightning.parts import Composition


class Unimodal(LateFusion):
    """Each modality trained, and its epoch selected, as if it were the only one.

    Encoders and heads share no parameters, so training them in one run gives the same results as
    training them in several. Each modality is evaluated with the weights of its own best epoch;
    ``multi`` is the mean of these models' logits, an ensemble of unimodal models.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> method = Unimodal(
        ...     encoders={"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ... )
        >>> method.selections()  # modality -> metric that selects its epoch
        {'audio': 'acc/audio', 'visual': 'acc/visual'}
    """

    min_modalities = 1

    def __init__(self, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must have one head per
                modality.

        Raises:
            ConfigError: If the fusion has a weighting, which would have no effect.
        """
        super().__init__(**parts)
        if getattr(self.fusion, "weighting", "mean") != "mean":
            raise ConfigError(
                "method.fusion.weighting has no effect on Unimodal, whose modalities are models of "
                "their own; use method=late_fusion"
            )

    def selections(self) -> dict[str, str]:
        """Return each modality's own accuracy, or ``select_by``, which selects its weights."""
        return {name: f"{self.parts.selection.column}/{name}" for name in self.modalities}
