"""Argument of every metric: logits of one modality or of the fusion, and labels."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor


class Outcome:
    """Logits and labels of all samples, and quantities that several metrics need, computed once.

    Attributes:
        logits: Logits (N, C).
        label: Labels (N,).

    Example:
        >>> outcome = Outcome(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
        >>> outcome.prediction, outcome.is_correct
        (tensor([0, 1]), tensor([ True, False]))
        >>> outcome.confusion
        tensor([[1., 1.],
                [0., 0.]], dtype=torch.float64)
    """

    def __init__(self, logits: Tensor, label: Tensor) -> None:
        """Store the logits and labels.

        Args:
            logits: Logits (N, C).
            label: Labels (N,).
        """
        self.logits, self.label = logits, label

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return self.logits.shape[1]

    @cached_property
    def _largest(self) -> tuple[Tensor, Tensor]:
        value, prediction = self.logits.max(dim=1)
        return value, prediction

    @property
    def prediction(self) -> Tensor:
        """Predicted classes (N,), the first of equal ones."""
        return self._largest[1]

    @cached_property
    def is_correct(self) -> Tensor:
        """Return whether the prediction is the label, (N,) bool."""
        return self.prediction == self.label

    @cached_property
    def confidence(self) -> Tensor:
        """Probability of the predicted class, (N,)."""
        # The largest probability alone: a softmax over few classes costs five times as much.
        return 1.0 / (self.logits - self._largest[0][:, None]).exp_().sum(dim=1)

    @cached_property
    def probability(self) -> Tensor:
        """Probabilities (N, C)."""
        return self.logits.softmax(dim=1)

    @cached_property
    def confusion(self) -> Tensor:
        """Number of samples by label (row) and prediction (column), (C, C) in float64."""
        cells = self.label * self.num_classes + self.prediction
        counts = torch.bincount(cells, minlength=self.num_classes**2)
        return counts.view(self.num_classes, self.num_classes).double()
