"""Projectors for the shared head's gradient, and what they are made from."""

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

#: How much of the memory is kept at each of a modality's steps.
KEPT = 0.95


class Projection(HeadGradient):
    r"""Multiplies the head's gradient by a projector: :math:`G P^\top`.

    Attributes:
        projectors: One (D, D) for all modalities, or one per modality: (1 or M, D, D); D + 1 with
            the bias.
        alpha: Ridge term of the updates to come.
        modified: Applies a projector: (gradient (C, D), projector (D, D)) -> gradient (C, D).
    """

    projectors: Tensor

    def __init__(
        self, modalities: Sequence[str], width: int, settings: Settings, *, is_shared: bool
    ) -> None:
        """Start from the identity.

        Args:
            modalities: The modalities.
            width: Width D of the head.
            settings: The settings.
            is_shared: One projector for all modalities.
        """
        super().__init__()
        self.modalities = tuple(modalities)
        self.settings, self.alpha = settings, settings.alpha
        self.apply_projector = project_gradient
        identity = torch.eye(width + settings.project_bias)
        rows = 1 if is_shared else len(self.modalities)
        self.register_buffer("projectors", identity.repeat(rows, 1, 1))
        self._before: list[Tensor] = []

    def edit_gradient(self, head: nn.Linear, step: HeadStep) -> None:
        """Project the gradient, or note where the update that is to be projected starts."""
        if self.settings.source == "current":
            self.remember(step)
        if self.settings.project_update:
            self._before = [parameter.detach().clone() for parameter in (head.weight, head.bias)]
            return
        assert head.weight.grad is not None
        assert head.bias.grad is not None
        self._project(step.name, head.weight.grad, head.bias.grad)

    def after_step(self, head: nn.Linear, step: HeadStep) -> None:
        """Project the update where that is wanted, and remember the step."""
        if self.settings.project_update:
            weight, bias = head.weight - self._before[0], head.bias - self._before[1]
            self._project(step.name, weight, bias)
            head.weight.copy_(self._before[0] + weight)
            head.bias.copy_(self._before[1] + bias)
        if self.settings.source == "previous":
            self.remember(step)

    def remember(self, step: HeadStep) -> None:
        """Let projectors learn of a step."""
        raise NotImplementedError

    def reset(self) -> None:
        """Go back to the identity."""
        self.projectors.copy_(torch.eye(self.projectors.shape[-1], device=self.projectors.device))

    def others(self, name: str) -> list[Tensor]:
        """The projectors of all modalities but one, as views."""
        return [self.projectors[row] for row, other in enumerate(self.modalities) if other != name]

    def _project(self, name: str, weight_CD: Tensor, bias_C: Tensor) -> None:
        row = self.modalities.index(name) if len(self.projectors) > 1 else 0
        projector = self.projectors[row]
        if not self.settings.project_bias:
            weight_CD.copy_(self.apply_projector(weight_CD, projector))
            return
        whole = self.apply_projector(torch.cat([weight_CD, bias_C[:, None]], dim=1), projector)
        weight_CD.copy_(whole[:, :-1])
        bias_C.copy_(whole[:, -1])


class Recursion(Projection):
    """The paper's recursion over mean features and its relatives: it never forgets."""

    def __init__(self, modalities: Sequence[str], width: int, settings: Settings) -> None:
        """Start from the identity; ``others`` has one projector per modality, the rest one."""
        is_shared = settings.projection != "others"
        super().__init__(modalities, width, settings, is_shared=is_shared)

    def remember(self, step: HeadStep) -> None:
        """Shrink the projectors along the step's mean feature."""
        mean_D = step.mean.to(self.projectors)
        if self.settings.project_bias:
            mean_D = torch.cat([mean_D, mean_D.new_ones(1)])
        shared = self.settings.projection != "others"
        for projector in self.projectors if shared else self.others(step.name):
            UPDATES[self.settings.projection](projector, mean_D, self.alpha)


class Memory(Projection):
    """A moment of each modality's features, which forgets; the other modalities' one projects."""

    memory: Tensor

    def __init__(
        self, modalities: Sequence[str], width: int, settings: Settings, num_classes: int
    ) -> None:
        """Remember nothing.

        Args:
            modalities: The modalities.
            width: Width D of the head.
            settings: The settings.
            num_classes: Number of classes C.
        """
        super().__init__(modalities, width, settings, is_shared=False)
        self.register_buffer("memory", torch.zeros_like(self.projectors))
        self.num_classes = num_classes
        self.kept = KEPT if settings.forgetting is None else settings.forgetting

    def remember(self, step: HeadStep) -> None:
        """Blend the batch into the modality's memory; the others' projectors follow."""
        feature_BD = step.features.to(self.memory)
        if self.settings.project_bias:
            feature_BD = torch.cat([feature_BD, feature_BD.new_ones(len(feature_BD), 1)], dim=1)
        moment_DD = MOMENTS[self.settings.projection](feature_BD, step.label, self.num_classes)
        own = self.memory[self.modalities.index(step.name)]
        kept = self.kept if bool(own.any()) else 0.0  # the first batch counts whole
        own.mul_(kept).add_(moment_DD, alpha=1 - kept)
        everything = self.memory.sum(dim=0)
        for row, other in enumerate(self.modalities):
            if other != step.name:
                moment_of_others = everything - self.memory[row]
                self.projectors[row].copy_(moment_projector(moment_of_others, self.alpha))

    def reset(self) -> None:
        """Empty the memories, too."""
        super().reset()
        self.memory.zero_()
