"""Freezing of the first layers of an encoder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Self

from torch import nn

from mla_lightning.encoders.base import Encoder
from mla_lightning.errors import ConfigError


class TunedEncoder(Encoder):
    """Base class of encoders whose first layers, or all layers, may be frozen.

    Frozen parameters require no gradient, so no graph is kept for them and no optimiser changes
    them, not even by weight decay. Frozen layers stay in evaluation mode, without dropout, while
    the rest is trained.

    Example:
        >>> from mla_lightning.encoders import M3AEText
        >>> encoder = M3AEText(num_tokens=40, width=8, depth=3, num_heads=2, tune="last_1").train()
        >>> [layer.training for layer in encoder.blocks.layers]
        [False, False, True]
        >>> encoder.cls_token.requires_grad
        False
    """

    _frozen: tuple[nn.Module, ...] = ()

    def freeze(self, tune: str, layers: Sequence[nn.Module], after: Sequence[nn.Module]) -> None:
        """Freeze everything that is not tuned; to be called once, at the end of a constructor.

        Args:
            tune: ``all``, ``none``, or ``last_K`` for the last K layers and the modules after them.
            layers: The layers, first to last.
            after: Modules after the last layer, such as its norm.

        Raises:
            ConfigError: If ``tune`` is something else, or K is not 1 to the number of layers.
        """
        if tune == "all":
            return
        match = re.fullmatch(r"last_(\d+)", tune)
        if tune != "none" and not (match and 1 <= int(match[1]) <= len(layers)):
            raise ConfigError(
                f"{type(self).__name__}: tune must be all, none, or last_1 to last_{len(layers)} "
                f"for the last layers, got {tune!r}"
            )
        tuned = [*layers[-int(match[1]) :], *after] if match else []
        tuned_modules = {id(child) for module in tuned for child in module.modules()}
        tuned_parameters = {id(parameter) for module in tuned for parameter in module.parameters()}
        for parameter in self.parameters():
            parameter.requires_grad_(id(parameter) in tuned_parameters)
        self._frozen = tuple(
            module
            for module in self.modules()
            if not any(id(child) in tuned_modules for child in module.modules())
        )
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the tuned modules; frozen modules stay in evaluation mode.

        Args:
            mode: True for training, False for evaluation.

        Returns:
            The encoder.
        """
        super().train(mode)
        for module in self._frozen:
            module.training = False
        return self
