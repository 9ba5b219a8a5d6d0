"""A copy of weights, to go back to."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightsCopy(nn.Module):
    """The parameters of a module at one time, as buffers, so that they are in every checkpoint.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> copy = WeightsCopy(layer)
        >>> with torch.no_grad():
        ...     layer.weight += 2
        >>> copy.pull(layer, torch.tensor(1.0))
        >>> torch.equal(layer.weight, copy.get_buffer("weight"))
        True
    """

    def __init__(self, module: nn.Module) -> None:
        """Copy the parameters.

        Args:
            module: The module.
        """
        super().__init__()
        for name, parameter in module.named_parameters():
            self.register_buffer(self._name_of(name), parameter.detach().clone())

    @staticmethod
    def _name_of(parameter: str) -> str:
        return parameter.replace(".", "/")  # a buffer's name has no dot

    @torch.no_grad()
    def pull(self, module: nn.Module, weight: Tensor) -> None:
        """Move the parameters of a module towards the copy, in place.

        Args:
            module: The module that was copied.
            weight: The copy's weight w in ``w * copy + (1 - w) * parameter``, a scalar.
        """
        for name, parameter in module.named_parameters():
            copy = self.get_buffer(self._name_of(name))
            parameter.lerp_(copy, weight.to(parameter))
