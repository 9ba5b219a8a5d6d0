"""Interface of modifications of the shared head's gradient, and those without a projector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mla_lightning import ranks
from mla_lightning.errors import ConfigError
from mla_lightning.functional import at_least_single, centred_gradient, remove_conflict


@dataclass
class HeadStep:
    """Features and labels of one modality's step, as the head sees them.

    Attributes:
        name: The modality.
        label: Labels of the samples that have it, (B,), those of all ranks.
        is_first: Whether it is the first step of a run, or after a reset.
        chunks: Inputs of the head, one (B', D) per chunk of this rank, without graph.

    Example:
        >>> step = HeadStep("audio", label=torch.tensor([0, 1, 1]))
        >>> step.add_features(torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
        >>> step.add_features(torch.tensor([[3.0, 6.0]]))
        >>> step.features.shape, step.mean
        (torch.Size([3, 2]), tensor([2., 2.]))
    """

    name: str
    label: Tensor
    is_first: bool = False
    chunks: list[Tensor] = field(default_factory=list)

    def add_features(self, feature: Tensor) -> None:
        """Add a chunk's features (B', D)."""
        self.chunks.append(at_least_single(feature.detach()))

    @property
    def features(self) -> Tensor:
        """All features (B, D), those of all ranks, in the order of the labels."""
        return ranks.gathered(torch.cat(self.chunks))

    @property
    def mean(self) -> Tensor:
        """The mean feature (D,) of the samples of all ranks."""
        own_sum = reduce(add, (chunk.sum(dim=0) for chunk in self.chunks))
        return ranks.total(own_sum) / len(self.label)


class HeadGradient(nn.Module):
    """Base class of modifications of the shared head's gradient; their state is in buffers.

    The base class itself changes nothing.
    """

    def extra_parameters(self, head: nn.Linear) -> Iterable[nn.Parameter]:
        """Build parameters for the optimiser besides those of the module.

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
        """Update the state with a step, after the optimiser has taken it.

        Args:
            head: The shared head.
            step: The step.
        """

    def reset(self) -> None:
        """Reset the state, as before the first step."""


class Conflict(HeadGradient):
    """Removes from the gradient what opposes the other modalities' last gradients (PCGrad).

    The gradients that are remembered are those before the removal.

    Example:
        >>> head = nn.Linear(2, 1)
        >>> rule = Conflict(["audio", "visual"], head)
        >>> for name, gradient in (("audio", [[1.0, 0.0]]), ("visual", [[-1.0, 1.0]])):
        ...     head.weight.grad = torch.tensor(gradient)
        ...     rule.edit_gradient(head, HeadStep(name, torch.tensor([0])))
        >>> head.weight.grad  # of visual, without the component against audio's
        tensor([[0., 1.]])
    """

    last_gradients: Tensor

    def __init__(self, modalities: Sequence[str], head: nn.Linear) -> None:
        """Set the last gradients to zero, which nothing opposes.

        Args:
            modalities: The modalities.
            head: The shared head.
        """
        super().__init__()
        self.modalities = tuple(modalities)
        shape = len(self.modalities), *head.weight.shape
        self.register_buffer("last_gradients", torch.zeros(shape))

    def edit_gradient(self, head: nn.Linear, step: HeadStep) -> None:
        """Store the gradient for the other modalities' steps, and remove the conflict from it."""
        weight = head.weight.grad
        assert weight is not None
        row = self.modalities.index(step.name)
        others = [g for other_row, g in enumerate(self.last_gradients) if other_row != row]
        self.last_gradients[row].copy_(weight)
        weight.copy_(remove_conflict(weight, others))


class Centred(HeadGradient):
    """Removes from the gradient what all samples of a batch share; has no state.

    Example:
        With equal features of all samples, the bias learns everything:

        >>> head, feature = nn.Linear(2, 2), torch.ones(3, 2)
        >>> label = torch.tensor([0, 1, 1])
        >>> nn.functional.cross_entropy(head(feature), label).backward()
        >>> step = HeadStep("audio", label)
        >>> step.add_features(feature)
        >>> Centred().edit_gradient(head, step)
        >>> head.weight.grad.abs().max() < 1e-6
        tensor(True)
    """

    def edit_gradient(self, head: nn.Linear, step: HeadStep) -> None:
        """Remove the mean feature from the weight's gradient."""
        weight, bias = head.weight.grad, head.bias.grad
        assert weight is not None
        assert bias is not None
        weight.copy_(centred_gradient(weight, bias, step.mean.to(weight.dtype)))


class OwnMomentum(HeadGradient):
    r"""Gives the head a momentum buffer per modality, as the encoders have.

    With one buffer for all, a step of modality m is :math:`v \leftarrow \mu v + g_m,\;
    W \leftarrow W - \eta v`: with :math:`\mu = 0.9` and two alternating modalities, 9/19 of the
    weight is on the other one's gradients. Here it is :math:`v_m \leftarrow \mu v_m + g_m,\;
    W \leftarrow W - \eta v_m`, and likewise for any other state that the optimiser keeps per
    parameter.

    Each modality has parameters of its own that share the head's storage. A step's gradient is
    moved to those of its modality, so the optimiser keeps and checkpoints a state for each.

    Example:
        >>> from functools import partial
        >>> head = nn.Linear(2, 3)
        >>> momentum = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
        >>> parameters = OwnMomentum(["audio", "visual"], momentum).extra_parameters(head)
        >>> [parameter.shape for parameter in parameters]  # weight and bias of each modality
        [torch.Size([3, 2]), torch.Size([3]), torch.Size([3, 2]), torch.Size([3])]
        >>> parameters[0].data_ptr() == head.weight.data_ptr()
        True
        >>> OwnMomentum(["audio", "visual"], partial(torch.optim.SGD, lr=0.1))
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.projection=own_momentum has no effect with this
        optimizer, which keeps nothing of past gradients; add optimizer.momentum=0.9, ...
    """

    def __init__(self, modalities: Sequence[str], optimizer: Callable[..., Optimizer]) -> None:
        """Check the optimiser.

        Args:
            modalities: The modalities.
            optimizer: Builds the optimiser from parameters.

        Raises:
            ConfigError: If the optimiser's steps do not depend on past gradients.
        """
        super().__init__()
        if not uses_past_gradients(optimizer):
            raise ConfigError(
                "method.projection=own_momentum has no effect with this optimizer, which keeps "
                "nothing of past gradients; add optimizer.momentum=0.9, or use method.hgm=false"
            )
        self.modalities = tuple(modalities)
        # Not registered: they share the head's storage, and the optimiser checkpoints their state.
        self._parameters_of: dict[str, list[nn.Parameter]] = {}

    def extra_parameters(self, head: nn.Linear) -> Iterable[nn.Parameter]:
        """Build parameters per modality that share the head's storage."""
        self._parameters_of = {
            name: [nn.Parameter(parameter) for parameter in head.parameters()]
            for name in self.modalities
        }
        return [p for parameters in self._parameters_of.values() for p in parameters]

    def edit_gradient(self, head: nn.Linear, step: HeadStep) -> None:
        """Move the gradient to the modality's own parameters; the head's have none then."""
        own_parameters = self._parameters_of[step.name]
        for parameter, own in zip(head.parameters(), own_parameters, strict=True):
            own.data = parameter.data  # the head may have been moved to another device since
            own.grad, parameter.grad = parameter.grad, None


def uses_past_gradients(optimizer: Callable[..., Optimizer]) -> bool:
    """Return whether an optimiser's steps depend on past gradients, by one step on a number.

    Args:
        optimizer: Builds the optimiser from parameters.

    Returns:
        Whether it keeps a tensor per parameter other than a count of steps.

    Example:
        >>> from functools import partial
        >>> uses_past_gradients(partial(torch.optim.SGD, lr=0.1))
        False
        >>> uses_past_gradients(partial(torch.optim.Adam, lr=0.1))
        True
    """
    number = nn.Parameter(torch.ones(1, 1))
    number.grad = torch.ones(1, 1)
    stepped = optimizer([number])
    stepped.step()
    state = stepped.state[number].items()
    return any(isinstance(value, Tensor) and key != "step" for key, value in state)
