"""Classification metrics: functions of an :class:`~mla_lightning.metrics.outcome.Outcome`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mla_lightning import counts
from mla_lightning.metrics.multilabel import mean_f1_of_labels
from mla_lightning.metrics.outcome import Outcome


def accuracy(outcome: Outcome) -> Tensor:
    """Return the fraction of samples whose prediction is the label, in [0, 1].

    Example:
        >>> import torch
        >>> accuracy(Outcome(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])))
        tensor(0.5000, dtype=torch.float64)
    """
    return _scalar(counts.accuracy(outcome.confusion_array))


def macro_f1(outcome: Outcome) -> Tensor:
    r"""Return the mean over classes of :math:`F_1 = 2 TP / (2 TP + FP + FN)`, in [0, 1].

    Classes, or labels of a multi-label task, that neither occur nor are predicted are omitted.

    Example:
        >>> import torch
        >>> macro_f1(Outcome(torch.eye(3)[[0, 0]], torch.tensor([0, 1])))  # F1 of 2/3, 0 and none
        tensor(0.3333, dtype=torch.float64)
    """
    if outcome.is_multilabel:
        return mean_f1_of_labels(outcome)
    return _scalar(counts.macro_f1(outcome.confusion_array))


def macro_recall(outcome: Outcome) -> Tensor:
    """Return the mean over the classes that occur of the fraction predicted correctly, in [0, 1].

    Also called balanced accuracy.

    Example:
        >>> import torch
        >>> macro_recall(Outcome(torch.eye(2)[[0, 0, 0, 0]], torch.tensor([0, 0, 0, 1])))
        tensor(0.5000, dtype=torch.float64)
    """
    confusion = outcome.confusion_array
    occurs = confusion.sum(axis=1)
    return _scalar((confusion.diagonal()[occurs > 0] / occurs[occurs > 0]).mean())


def weighted_f1(outcome: Outcome) -> Tensor:
    """Return the F1 of each class weighted by how often it occurs, in [0, 1].

    Example:
        >>> import torch
        >>> weighted_f1(Outcome(torch.eye(2)[[0, 0, 0, 0]], torch.tensor([0, 0, 0, 1])))
        tensor(0.6429, dtype=torch.float64)
    """
    confusion = outcome.confusion_array
    f1, _ = counts.f1_by_class(confusion)
    return _scalar((f1 * confusion.sum(axis=1)).sum() / confusion.sum())


def ece(outcome: Outcome) -> Tensor:
    r"""Return the expected calibration error of the predicted class, in [0, 1].

    .. math:: \sum_b \frac{n_b}{N} \, |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    over 15 bins of equal width (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
    equation 3).

    Example:
        >>> import torch
        >>> confident = torch.tensor([[9.0, -9.0], [9.0, -9.0]])
        >>> round(float(ece(Outcome(confident, torch.tensor([0, 1])))), 3)
        0.5
    """
    return _scalar(counts.calibration_error(*outcome.calibration_arrays))


def _scalar(value: np.ndarray) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
