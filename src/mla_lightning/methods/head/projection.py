"""Modifications that project the shared head's gradient, and the updates of their projectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mla_lightning.functional import (
    moment_projector,
    project_gradient,
)
from mla_lightning.methods.head.rules import HeadGradient, HeadStep
from mla_lightning.methods.head.settings import MOMENTS, UPDATES, Settings

#: Fraction of a memory that is kept at each of its modality's steps.
DEFAULT_RETENTION = 0.95


class Projection(HeadGradient):
    r"""Base class of modifications that multiply the head's gradient by a projector: G P^T.

    Attributes:
        projectors: Projectors (1, D, D) of all modalities or (M, D, D), one per modality; D + 1
            with the bias.
        alpha: Ridge term of the next updates.
        apply_projector: Gradient (C, D), projector (D, D) -> projected gradient (C, D).
    """

    projectors: Tensor

    def __init__(
        self, modalities: Sequence[str], width: int, settings: Settings, *, is_shared: bool
    ) -> None:
        """Set the projectors to the identity.

        Args:
            modalities: The modalities.
            width: Width D of the head's input.
            settings: The settings.
            is_shared: Whether all modalities have one projector.
        """
        super().__init__()
        self.modalities = tuple(modalities)
        self.settings, self.alpha = settings, settings.alpha
        self.apply_projector = project_gradient
        identity = torch.eye(width + settings.project_bias)
        num_projectors = 1 if is_shared else len(self.modalities)
        self.register_buffer("projectors", identity.repeat(num_projectors, 1, 1))
        self._before: list[Tensor] = []

    def edit_gradient(self, head: nn.Linear, step: HeadStep) -> None:
        """Project the gradient, or store the weights if the update is to be projected."""
        if self.settings.source == "current":
            self.remember(step)
        if self.settings.project_update:
            self._before = [parameter.clone() for parameter in (head.weight, head.bias)]
            return
        assert head.weight.grad is not None
        assert head.bias.grad is not None
        self._project(step.name, head.weight.grad, head.bias.grad)

    def after_step(self, head: nn.Linear, step: HeadStep) -> None:
        """Project the update if the settings say so, and remember the step."""
        if self.settings.project_update:
            weight, bias = head.weight - self._before[0], head.bias - self._before[1]
            self._project(step.name, weight, bias)
            head.weight.copy_(self._before[0] + weight)
            head.bias.copy_(self._before[1] + bias)
        if self.settings.source == "previous":
            self.remember(step)

    def remember(self, step: HeadStep) -> None:
        """Update the projectors with the features of a step."""
        raise NotImplementedError

    def reset(self) -> None:
        """Set the projectors to the identity."""
        self.projectors.copy_(torch.eye(self.projectors.shape[-1], device=self.projectors.device))

    def others(self, name: str) -> list[Tensor]:
        """Return the projectors of all modalities but one, as views."""
        return [self.projectors[row] for row, other in enumerate(self.modalities) if other != name]

    def _project(self, name: str, weight_CD: Tensor, bias_C: Tensor) -> None:
        row = self.modalities.index(name) if len(self.projectors) > 1 else 0
        projector = self.projectors[row]
        if not self.settings.project_bias:
            weight_CD.copy_(self.apply_projector(weight_CD, projector))
            return
        with_bias = torch.cat([weight_CD, bias_C[:, None]], dim=1)
        projected = self.apply_projector(with_bias, projector)
        weight_CD.copy_(projected[:, :-1])
        bias_C.copy_(projected[:, -1])


class Recursion(Projection):
    """The paper's recursion over mean features, and its variants. It never forgets.

    Example:
        After a step of audio along the first axis, visual gradients along it are shrunk to
        alpha / (alpha + |h|^2) = 0.1 / 1.1; ``others`` leaves audio's own gradients as they are:

        >>> recursion = Recursion(["audio", "visual"], 2, Settings(projection="others", alpha=0.1))
        >>> step = HeadStep("audio", torch.tensor([0]))
        >>> step.add_features(torch.tensor([[1.0, 0.0]]))
        >>> recursion.remember(step)
        >>> dict(zip(recursion.modalities, recursion.projectors))
        {'audio': tensor([[1., 0.], [0., 1.]]), 'visual': tensor([[0.0909, 0.0000], [0.0000, ...]])}
    """

    def __init__(self, modalities: Sequence[str], width: int, settings: Settings) -> None:
        """Set the projectors to the identity: one per modality for ``others``, else one for all.

        Args:
            modalities: The modalities.
            width: Width D of the head's input.
            settings: The settings.
        """
        is_shared = settings.projection != "others"
        super().__init__(modalities, width, settings, is_shared=is_shared)

    def remember(self, step: HeadStep) -> None:
        """Shrink the projectors along the step's mean feature."""
        mean_D = step.mean.to(self.projectors)
        if self.settings.project_bias:
            mean_D = torch.cat([mean_D, mean_D.new_ones(1)])
        is_shared = self.settings.projection != "others"
        for projector in self.projectors if is_shared else self.others(step.name):
            UPDATES[self.settings.projection](projector, mean_D, self.alpha)


class ReleasedRecursion(Recursion):
    """The recursion in the order of the released code: the very first step is left alone.

    The released plug-in, and the toolkit's copy of it, return at once while their counter of steps
    is 0: that step's gradient is not edited, and its features are not remembered.

    Example:
        >>> settings = Settings(projection="released_formula", source="current")
        >>> recursion, head = ReleasedRecursion(["audio", "visual"], 2, settings), nn.Linear(2, 1)
        >>> for name in recursion.modalities:
        ...     head.weight.grad, head.bias.grad = torch.ones(1, 2), torch.ones(1)
        ...     step = HeadStep(name, torch.tensor([0]), is_first=name == "audio")
        ...     step.add_features(torch.tensor([[1.0, 0.0]]))
        ...     recursion.edit_gradient(head, step)
        ...     print(name, head.weight.grad)
        audio tensor([[1., 1.]])
        visual tensor([[0.0905, 0.9959]])
    """

    def edit_gradient(self, head: nn.Linear, step: HeadStep) -> None:
        """Remember the step and project its gradient, unless it is the first."""
        if not step.is_first:
            super().edit_gradient(head, step)

    def after_step(self, head: nn.Linear, step: HeadStep) -> None:
        """Project the update if the settings say so, unless the step is the first."""
        if not step.is_first:
            super().after_step(head, step)


class Memory(Projection):
    """A moment of each modality's features, which decays; a step is projected by the others'.

    Example:
        Only directions that the other modality's features use are shrunk:

        >>> settings = Settings(projection="means", alpha=0.1)
        >>> memory = Memory(["audio", "visual"], 2, settings, num_classes=2)
        >>> step = HeadStep("audio", torch.tensor([0]))
        >>> step.add_features(torch.tensor([[2.0, 0.0]]))
        >>> memory.remember(step)
        >>> memory.memory[0]  # the moment of audio
        tensor([[4., 0.], [0., 0.]])
        >>> memory.projectors[1]  # of visual
        tensor([[0.0476, 0.0000], [0.0000, 1.0000]])
    """

    memory: Tensor

    def __init__(
        self, modalities: Sequence[str], width: int, settings: Settings, num_classes: int
    ) -> None:
        """Set the memories to zero and the projectors to the identity.

        Args:
            modalities: The modalities.
            width: Width D of the head's input.
            settings: The settings.
            num_classes: Number of classes C.
        """
        super().__init__(modalities, width, settings, is_shared=False)
        self.register_buffer("memory", torch.zeros_like(self.projectors))
        self.num_classes = num_classes
        self.retention = DEFAULT_RETENTION if settings.forgetting is None else settings.forgetting

    def remember(self, step: HeadStep) -> None:
        """Blend the batch's moment into the modality's memory; update the others' projectors."""
        feature_BD = step.features.to(self.memory)
        if self.settings.project_bias:
            feature_BD = torch.cat([feature_BD, feature_BD.new_ones(len(feature_BD), 1)], dim=1)
        moment_DD = MOMENTS[self.settings.projection](feature_BD, step.label, self.num_classes)
        memory_DD = self.memory[self.modalities.index(step.name)]
        retention = self.retention if bool(memory_DD.any()) else 0.0  # the first batch counts fully
        memory_DD.mul_(retention).add_(moment_DD, alpha=1 - retention)
        total_DD = self.memory.sum(dim=0)
        for row, other in enumerate(self.modalities):
            if other != step.name:
                moment_of_others = total_DD - self.memory[row]
                self.projectors[row].copy_(moment_projector(moment_of_others, self.alpha))

    def reset(self) -> None:
        """Set the memories to zero and the projectors to the identity."""
        super().reset()
        self.memory.zero_()
