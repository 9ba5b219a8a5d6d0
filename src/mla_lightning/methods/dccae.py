"""DCCAE: DCCA with decoders of the inputs."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional import fill_with_mean
from mla_lightning.fusion.imagination import build_mlp
from mla_lightning.methods.dcca import DCCA
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition, input_widths


class DCCAE(DCCA):
    """Deep canonically correlated autoencoders: DCCA plus ``weight`` times the decoding error.

    The error is the mean over all elements of the inputs, with training means in place of absent
    inputs, and summed over the modalities, as in GCNet's code.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from mla_lightning.batch import as_batch
        >>> method = DCCAE(
        ...     encoders={"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ...     num_components=2,
        ...     weight=1.0,
        ...     train_batches=lambda: [],
        ... )
        >>> inputs = {"audio": torch.randn(60, 3), "visual": torch.randn(60, 5)}
        >>> losses = method.losses_of(as_batch(inputs, method.modalities, needs=()))
        >>> list(losses), losses["decoding"].item() > 0
        (['correlation', 'decoding'], True)
    """

    reference = Reference(
        "On Deep Multi-View Representation Learning",
        "ICML",
        2015,
        "https://proceedings.mlr.press/v37/wangb15.html",
    )

    def __init__(
        self,
        *,
        num_components: int = 10,
        ridge: float = 1e-3,
        weight: float = 0.001,
        hidden: tuple[int, ...] = (256, 256),
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            num_components: Width k of each modality's correlated feature.
            ridge: Added to the diagonals of the covariances, > 0.
            weight: Weight of the decoding error, > 0.
            hidden: Widths of the decoders' hidden layers.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be the padded one.

        Raises:
            ConfigError: If a number is out of range, or inputs are not vectors.
        """
        if weight <= 0:
            raise ConfigError(f"method.weight must be > 0, got {weight}; without it use dcca")
        widths = input_widths(parts["encoders"])
        super().__init__(num_components=num_components, ridge=ridge, **parts)
        self.weight = weight
        self.decoders = nn.ModuleDict(
            {name: build_mlp((num_components, *hidden, width)) for name, width in widths.items()}
        )

    def losses_of(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute minus the total correlation, and the decoding error."""
        with torch.autocast(self.device.type, enabled=False):
            features = self.features(chunk)
        errors = []
        for name, decode in self.decoders.items():
            x = fill_with_mean(chunk["inputs"][name], chunk["present"][name], self.input_mean(name))
            errors.append(mse_loss(decode(features[name]), x))
        decoding = self.weight * sum(errors[1:], errors[0])
        return {"correlation": self.correlation_loss(features), "decoding": decoding}
