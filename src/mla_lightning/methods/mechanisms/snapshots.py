"""Weights as they were at some moment of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Snapshot(nn.Module):
    """The values that some parameters had at some moment, such as all weights of each encoder.

    At first they are those at the time of building, which are the initial weights; :meth:`take`
    replaces them by the current ones. The values are buffers: a checkpoint has them, so a resumed
    run compares with the same moment. As an attribute of a method it follows its device and its
    precision.

    Example:
        >>> encoders = {"audio": nn.Linear(2, 1, bias=False), "visual": nn.Linear(2, 1)}
        >>> initial = Snapshot({name: [*e.parameters()] for name, e in encoders.items()})
        >>> with torch.no_grad():
        ...     _ = encoders["audio"].weight.mul_(2.0)
        >>> (move,) = initial.moves("audio")  # from the snapshot to the current weights
        >>> torch.equal(2 * move, encoders["audio"].weight.detach())
        True
        >>> initial.take()
        >>> initial.moves("audio")
        [tensor([[0., 0.]])]
        >>> [weight.shape for weight in initial.weights("visual")]
        [torch.Size([1, 2]), torch.Size([1])]
    """

    def __init__(self, parameters: Mapping[str, Sequence[nn.Parameter]]) -> None:
        """Copy the current values.

        Args:
            parameters: Name, such as a modality -> parameters.
        """
        super().__init__()
        self._parameters_of = {name: list(of_name) for name, of_name in parameters.items()}
        for name, of_name in self._parameters_of.items():
            for number, parameter in enumerate(of_name):
                self.register_buffer(f"{name}/{number}", parameter.detach().clone())

    def weights(self, name: str) -> list[Tensor]:
        """Return the values at the moment of the snapshot, in the order of the parameters.

        Args:
            name: The name that the parameters were given by.
        """
        number = len(self._parameters_of[name])
        return [self.get_buffer(f"{name}/{place}") for place in range(number)]

    @torch.no_grad()
    def moves(self, name: str) -> list[Tensor]:
        """Return how far each parameter has moved since: its value minus that of the snapshot.

        Args:
            name: The name that the parameters were given by.
        """
        pairs = zip(self._parameters_of[name], self.weights(name), strict=True)
        return [parameter - weight for parameter, weight in pairs]

    @torch.no_grad()
    def pull(self, name: str, weight: Tensor) -> None:
        """Move parameters towards the snapshot, in place.

        Args:
            name: The name that the parameters were given by.
            weight: The snapshot's weight w in ``w * snapshot + (1 - w) * parameter``, a scalar.
        """
        for parameter, value in zip(self._parameters_of[name], self.weights(name), strict=True):
            parameter.lerp_(value, weight.to(parameter))

    @torch.no_grad()
    def take(self) -> None:
        """Replace the values by the current ones."""
        for name, of_name in self._parameters_of.items():
            for parameter, weight in zip(of_name, self.weights(name), strict=True):
                weight.copy_(parameter)
