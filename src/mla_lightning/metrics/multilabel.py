"""Metrics of several labels per sample: functions of an ``Outcome`` with labels (N, L).

A label is predicted where its logit is above 0, a probability of one half.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mla_lightning.metrics.outcome import Outcome


def micro_f1(outcome: Outcome) -> Tensor:
    r"""Return :math:`2 TP / (2 TP + FP + FN)` of all labels and samples together, in [0, 1].

    It is 0 if no label occurs and none is predicted, as in scikit-learn.

    Example:
        One of two labels is found, and one is predicted that the sample does not have:

        >>> outcome = Outcome(torch.tensor([[1.0, -1.0, 1.0]]), torch.tensor([[1.0, 1.0, 0.0]]))
        >>> micro_f1(outcome)
        tensor(0.5000, dtype=torch.float64)
    """
    hits, errors = _counts(outcome)
    total = 2 * hits.sum() + errors.sum()
    return 2 * hits.sum() / total if total else torch.tensor(0.0, dtype=torch.float64)


def mean_f1_of_labels(outcome: Outcome) -> Tensor:
    """Return the mean over the labels of F1, in [0, 1].

    Labels that neither occur nor are predicted are omitted.

    Example:
        An F1 of 1 and one of 0:

        >>> logits = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
        >>> mean_f1_of_labels(Outcome(logits, torch.tensor([[1.0, 1.0], [1.0, 0.0]])))
        tensor(0.5000, dtype=torch.float64)
    """
    hits, errors = _counts(outcome)
    total = 2 * hits + errors
    if not bool((total > 0).any()):
        return torch.tensor(0.0, dtype=torch.float64)
    return (2 * hits / total)[total > 0].mean()


def mean_ap(outcome: Outcome) -> Tensor:
    r"""Return the mean over the labels of the average precision, in [0, 1].

    The average precision of a label is :math:`\sum_k (R_k - R_{k-1}) P_k` over the thresholds k,
    with precision P and recall R of the samples whose logit is at least the threshold. Labels that
    no sample has are omitted; the mean is 0 if no label occurs.

    Example:
        The samples with the label are ranked first and third: (1 + 2/3) / 2.

        >>> logits = torch.tensor([[3.0], [2.0], [1.0], [0.0]])
        >>> mean_ap(Outcome(logits, torch.tensor([[1.0], [0.0], [1.0], [0.0]])))
        tensor(0.8333, dtype=torch.float64)
    """
    precisions = [
        _average_precision(z, y)
        for z, y in zip(outcome.logits.T, outcome.label.T, strict=True)
        if bool((y > 0).any())
    ]
    return torch.stack(precisions).mean() if precisions else torch.zeros((), dtype=torch.float64)


def _average_precision(z: Tensor, y: Tensor) -> Tensor:
    """Return the average precision of one label; equal logits are one threshold."""
    order = z.argsort(descending=True, stable=True)
    z, hits = z[order], y[order].double().cumsum(dim=0)
    is_last = torch.cat([z[1:] != z[:-1], torch.ones(1, dtype=torch.bool, device=z.device)])
    ranks = torch.arange(1, len(z) + 1, device=z.device)[is_last]
    hits = hits[is_last]
    gains = hits.diff(prepend=hits.new_zeros(1)) / hits[-1]
    return (gains * hits / ranks).sum()


def _counts(outcome: Outcome) -> tuple[Tensor, Tensor]:
    """Return true positives, and false positives plus false negatives, of each label (L,)."""
    predicted, has = outcome.logits > 0, outcome.label > 0
    return (predicted & has).sum(dim=0).double(), (predicted ^ has).sum(dim=0).double()
