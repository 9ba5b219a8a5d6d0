"""Argument of every metric: logits of one modality or of the fusion, and labels."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mla_lightning.counts import confusion_matrix, predict_classes


class Outcome:
    """Logits and labels of all samples, and quantities that several metrics need, computed once.

    Attributes:
        logits: Logits (N, C); of regression predictions (N, 1) in the target's own unit.
        label: Labels (N,), or (N, L) of several labels.

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

    @property
    def is_multilabel(self) -> bool:
        """Return whether a sample may have several labels."""
        return self.label.ndim == 2

    @property
    def predicted_value(self) -> Tensor:
        """Predicted numbers (N,) of regression, in float64."""
        return self.logits[:, 0].double()

    @property
    def prediction(self) -> Tensor:
        """Predicted classes (N,), the first of equal ones."""
        return self._tensor(self._predicted[0])

    @cached_property
    def is_correct(self) -> Tensor:
        """Return whether the prediction is the label, (N,) bool."""
        return self.prediction == self.label

    @property
    def confidence(self) -> Tensor:
        """Probability of the predicted class, (N,) in float64."""
        return self._tensor(self._predicted[1])

    @cached_property
    def probability(self) -> Tensor:
        """Probabilities (N, C)."""
        return self.logits.softmax(dim=1)

    @property
    def confusion(self) -> Tensor:
        """Number of samples by label (row) and prediction (column), (C, C) in float64."""
        return self._tensor(self.confusion_array).double()

    @cached_property
    def confusion_array(self) -> np.ndarray:
        """The confusion matrix as an array of integers, (C, C)."""
        return confusion_matrix(as_array(self.label), self._predicted[0], self.num_classes)

    @property
    def calibration_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Confidence and whether the prediction is the label, as arrays (N,)."""
        prediction, confidence = self._predicted
        return confidence, prediction == as_array(self.label)

    @cached_property
    def _predicted(self) -> tuple[np.ndarray, np.ndarray]:
        return predict_classes(as_array(self.logits))

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.logits.device)


def as_array(values: Tensor) -> np.ndarray:
    """Return a tensor as an array on the CPU; numbers of half precision become float32.

    Example:
        >>> as_array(torch.ones(2, dtype=torch.bfloat16)).dtype
        dtype('float32')
    """
    is_half = values.is_floating_point() and values.itemsize < 4
    return (values.float() if is_half else values).detach().cpu().numpy()
