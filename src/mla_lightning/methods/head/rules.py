"""What an alternating step does to the shared head's gradient, by rules without a projector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mla_lightning.errors import ConfigError
from mla_lightning.functional import centred_gradient, remove_conflict


@dataclass
class HeadStep:
    """What a modification learns of one modality's step.

    Attributes:
        name: The modality.
        label: Labels of the samples that have it, (B,).
        chunks: The features that the head saw of them, one (B', D) per chunk, without graph.
    """

    name: str
    label: Tensor
    chunks: list[Tensor] = field(default_factory=list)

    def add_features(self, feature: Tensor) -> None:
        """Take note of a chunk's features (B', D)."""
        self.chunks.append(feature.detach().float())

    @property
    def features(self) -> Tensor:
        """All features (B, D)."""
        return torch.cat(self.chunks)

    @property
    def mean(self) -> Tensor:
        """The mean feature (D,)."""
        return reduce(add, (chunk.sum(dim=0) for chunk in self.chunks)) / len(self.label)


class HeadGradient(nn.Module):
    """What is done to the shared head's gradient, and what is remembered for it, in buffers.

    As it is it does nothing.
    """

    def extra_parameters(self, head: nn.Linear) -> Iterable[nn.Parameter]:
        """Make what the optimiser is to step on besides the module's own parameters.

        Args:
            head: The shared head, on its device.

        Returns:
            The parameters; none by default.
        """
        del head
        return ()

    def edit_gradient(self, head: nn.Linear, step: HeadStep) -> None:
        """Change the head's gradient in place, after backward and before the optimiser.

        Args:
            head: The shared head.
            step: The step.
        """

    def after_step(self, head: nn.Linear, step: HeadStep) -> None:
        """Learn of the step, once the optimiser has taken it.

        Args:
            head: The shared head.
            step: The step.
        """

    def reset(self) -> None:
        """Forget everything."""


class Conflict(HeadGradient):
    """Takes away what points against the other modalities' last gradients, as they came."""

    last_gradients: Tensor

    def __init__(self, modalities: Sequence[str], head: nn.Linear) -> None:
        """Start from gradients of zero, which nothing points against."""
        super().__init__()
        self.modalities = tuple(modalities)
        shape = len(self.modalities), *head.weight.shape
        self.register_buffer("last_gradients", torch.zeros(shape))

    def edit_gradient(self, head: nn.Linear, step: HeadStep) -> None:
        """Keep the gradient for the others and take the conflict out of it."""
        weight = head.weight.grad
        assert weight is not None
        row = self.modalities.index(step.name)
        others = [g for place, g in enumerate(self.last_gradients) if place != row]
        self.last_gradients[row].copy_(weight)
        weight.copy_(remove_conflict(weight, others))


class Centred(HeadGradient):
    """Takes away what all samples of a batch share; remembers nothing."""

    def edit_gradient(self, head: nn.Linear, step: HeadStep) -> None:
        """Take the mean feature out of the weight's gradient."""
        weight, bias = head.weight.grad, head.bias.grad
        assert weight is not None
        assert bias is not None
        weight.copy_(centred_gradient(weight, bias, step.mean.to(weight.dtype)))


class OwnMomentum(HeadGradient):
    r"""Gives the head a momentum buffer per modality, as the encoders have theirs.

    With one buffer for all, a step of modality m is :math:`v \leftarrow \mu v + g_m,\;
    W \leftarrow W - \eta v`: with :math:`\mu = 0.9` and two modalities in turn, 9/19 of the
    weight is on the other's gradients. Here it is :math:`v_m \leftarrow \mu v_m + g_m,\;
    W \leftarrow W - \eta v_m`, and likewise for whatever the optimiser keeps per parameter.

    Each modality has parameters of its own that share the head's numbers. A step's gradient is
    handed to those of its modality, so the optimiser finds, keeps and checkpoints a state for each.
    """

    def __init__(self, modalities: Sequence[str], optimizer: Callable[..., Optimizer]) -> None:
        """Build it.

        Args:
            modalities: The modalities.
            optimizer: Builds the optimiser from parameters.

        Raises:
            ConfigError: If the optimiser keeps nothing of past gradients.
        """
        super().__init__()
        if not uses_past_gradients(optimizer):
            raise ConfigError(
                "method.projection=own_momentum has no effect with this optimizer, which keeps "
                "nothing of past gradients; add optimizer.momentum=0.9, or use method.hgm=false"
            )
        self.modalities = tuple(modalities)
        # Not registered: their numbers are the head's, and the optimiser checkpoints their state.
        self._of: dict[str, list[nn.Parameter]] = {}

    def extra_parameters(self, head: nn.Linear) -> Iterable[nn.Parameter]:
        """Make parameters per modality that share the head's numbers."""
        self._of = {
            name: [nn.Parameter(own.detach()) for own in head.parameters()]
            for name in self.modalities
        }
        return [parameter for found in self._of.values() for parameter in found]

    def edit_gradient(self, head: nn.Linear, step: HeadStep) -> None:
        """Hand the gradient to the modality's own parameters; the head's have none."""
        for own, parameter in zip(head.parameters(), self._of[step.name], strict=True):
            parameter.data = own.data  # the head's numbers, wherever they are by now
            parameter.grad, own.grad = own.grad, None


def uses_past_gradients(optimizer: Callable[..., Optimizer]) -> bool:
    """Find out whether an optimiser's step depends on past gradients, by a step on a number.

    Args:
        optimizer: Builds the optimiser from parameters.

    Returns:
        Whether it keeps a tensor per parameter, a count of steps aside.
    """
    number = nn.Parameter(torch.ones(1, 1))
    number.grad = torch.ones(1, 1)
    built = optimizer([number])
    built.step()
    return any(isinstance(v, Tensor) and key != "step" for key, v in built.state[number].items())
