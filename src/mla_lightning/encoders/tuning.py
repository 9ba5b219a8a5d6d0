"""Which layers of a pretrained encoder are trained, and which stay as they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Self

from torch import nn

from mla_lightning.encoders.base import Encoder
from mla_lightning.errors import ConfigError


class TunedEncoder(Encoder):
    """An encoder whose first layers, or all, may be frozen.

    What is frozen takes no gradient, so no graph is kept of it and no optimiser moves it, not even
    by weight decay; and it stays in evaluation mode, without dropout, while the rest trains.
    """

    _frozen: tuple[nn.Module, ...] = ()

    def freeze(self, tune: str, layers: Sequence[nn.Module], after: Sequence[nn.Module]) -> None:
        """Freeze all that is not to be tuned; called once, at the end of a constructor.

        Args:
            tune: ``all``, ``none``, or ``last_K`` for the last K layers and what follows them.
            layers: The layers, first to last.
            after: What follows the last layer, such as its norm.

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
        live = {id(part) for module in tuned for part in module.modules()}
        kept = {id(parameter) for module in tuned for parameter in module.parameters()}
        for parameter in self.parameters():
            parameter.requires_grad_(id(parameter) in kept)
        self._frozen = tuple(
            module
            for module in self.modules()
            if not any(id(part) in live for part in module.modules())
        )
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of what is tuned; the frozen part stays in evaluation mode.

        Args:
            mode: Training, or evaluation.

        Returns:
            The encoder.
        """
        super().train(mode)
        for module in self._frozen:
            module.training = False
        return self
