"""Metrics of one number per sample: functions of an ``Outcome`` with targets (N,).

Logits (N, 1) are predictions in the target's own unit. Sums are in double precision.

The metrics with fixed classes are those of sentiment between -3 and 3, as papers on CMU-MOSI and
CMU-MOSEI compute them (Tsai et al., ACL 2019, and its code). Runs record them only if all targets
are in that range, see :func:`is_sentiment`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mla_lightning import counts
from mla_lightning.metrics.outcome import Outcome

#: Largest absolute value of a target for which the classes of sentiment are defined.
SENTIMENT = 3


def mae(outcome: Outcome) -> Tensor:
    """Return the mean absolute error, in the target's own unit.

    Example:
        >>> mae(Outcome(torch.tensor([[1.0], [2.0]]), torch.tensor([0.0, 4.0])))
        tensor(1.5000, dtype=torch.float64)
    """
    return (outcome.predicted_value - outcome.label.double()).abs().mean()


def correlation(outcome: Outcome) -> Tensor:
    """Return Pearson's correlation of prediction and target, in [-1, 1].

    It is 0 where either is constant: such a prediction says nothing about the target.

    Example:
        >>> target = torch.tensor([1.0, 2.0, 4.0])
        >>> correlation(Outcome(10 - target[:, None], target))
        tensor(-1., dtype=torch.float64)
        >>> correlation(Outcome(torch.ones(3, 1), target))
        tensor(0., dtype=torch.float64)
    """
    prediction, target = outcome.predicted_value, outcome.label.double()
    x, y = prediction - prediction.mean(), target - target.mean()
    # a constant number minus its rounded mean is not 0
    if bool((prediction == prediction[:1]).all()) or bool((target == target[:1]).all()):
        return x.new_zeros(())
    scale = x.square().sum().sqrt() * y.square().sum().sqrt()
    return ((x * y).sum() / scale).clamp(-1, 1)


def r2(outcome: Outcome) -> Tensor:
    r"""Return the explained fraction of the variance of the target, at most 1.

    .. math:: R^2 = 1 - \sum_n (y_n - \hat y_n)^2 / \sum_n (y_n - \bar y)^2

    It is 0 for the mean as prediction, negative for worse ones, and NaN for a constant target.

    Example:
        >>> target = torch.tensor([1.0, 2.0, 3.0])
        >>> r2(Outcome(target[:, None], target)), r2(Outcome(torch.full((3, 1), 2.0), target))
        (tensor(1., dtype=torch.float64), tensor(0., dtype=torch.float64))
    """
    target = outcome.label.double()
    spread = (target - target.mean()).square().sum()
    error = (outcome.predicted_value - target).square().sum()
    return 1 - error / spread if spread > 0 else target.new_tensor(math.nan)


def is_sentiment(label: Tensor) -> bool:
    """Return whether all targets (N,) are between -3 and 3, so that the metrics below are defined.

    Example:
        >>> is_sentiment(torch.tensor([-3.0, 0.4])), is_sentiment(torch.tensor([0.0, 5.0]))
        (True, False)
    """
    return bool((label.abs() <= SENTIMENT).all())


def acc2(outcome: Outcome) -> Tensor:
    """Return how often prediction > 0 agrees with target > 0, over targets other than 0.

    It is NaN if all targets are 0.

    Example:
        The target of 0 is left out:

        >>> outcome = Outcome(torch.tensor([[0.1], [0.1], [-9.0]]), torch.tensor([2.0, -1.0, 0.0]))
        >>> acc2(outcome)
        tensor(0.5000, dtype=torch.float64)
    """
    confusion = _signs(outcome)
    return _nan() if confusion is None else _scalar(float(counts.accuracy(confusion)))


def f1_2(outcome: Outcome) -> Tensor:
    """Return the F1 of both signs, weighted by how often they occur, over targets that are not 0.

    Example:
        >>> target = torch.tensor([1.0, 1.0, 1.0, -1.0])
        >>> f1_2(Outcome(torch.ones(4, 1), target))  # 3/4 of 6/7
        tensor(0.6429, dtype=torch.float64)
    """
    confusion = _signs(outcome)
    if confusion is None:
        return _nan()
    f1, _ = counts.f1_by_class(confusion)
    return _scalar(float((f1 * confusion.sum(axis=1)).sum() / confusion.sum()))


def acc5(outcome: Outcome) -> Tensor:
    """Return how often prediction and target, clipped to [-2, 2], round to the same number.

    Example:
        >>> acc5(Outcome(torch.tensor([[2.9], [0.4]]), torch.tensor([2.0, 1.0])))
        tensor(0.5000, dtype=torch.float64)
    """
    return _rounded_accuracy(outcome, 2)


def acc7(outcome: Outcome) -> Tensor:
    """Return how often prediction and target, clipped to [-3, 3], round to the same number.

    Halves are rounded to the even number, as in NumPy.

    Example:
        >>> acc7(Outcome(torch.tensor([[2.9], [0.4]]), torch.tensor([3.0, 1.0])))
        tensor(0.5000, dtype=torch.float64)
    """
    return _rounded_accuracy(outcome, 3)


def _rounded_accuracy(outcome: Outcome, limit: int) -> Tensor:
    prediction, target = outcome.predicted_value, outcome.label.double()
    rounded = (values.clamp(-limit, limit).round() for values in (prediction, target))
    return torch.eq(*rounded).double().mean()


def _signs(outcome: Outcome) -> np.ndarray | None:
    """Return the confusion matrix (2, 2) of the signs, or None if all targets are 0."""
    target = outcome.label.double()
    rows = target != 0
    if not bool(rows.any()):
        return None
    is_positive = (target[rows] > 0).long().cpu().numpy()
    predicted = (outcome.predicted_value[rows] > 0).long().cpu().numpy()
    return counts.confusion_matrix(is_positive, predicted, 2)


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _nan() -> Tensor:
    return _scalar(math.nan)
