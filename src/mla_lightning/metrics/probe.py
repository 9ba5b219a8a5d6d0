"""Ridge probe: score of a linear model on a frozen encoder's features."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mla_lightning.metrics.by_task import primary_score
from mla_lightning.run_folder.tasks import CLASSIFICATION, MULTILABEL, PRIMARY

#: Candidates of the ridge term, as fractions of the standardised features' mean variance.
RIDGES = tuple(10.0**power for power in range(-5, 3))


@dataclass(frozen=True)
class Probe:
    """A linear model of features.

    Attributes:
        mean: Mean of the training features (D,).
        std: Their standard deviation (D,), 1 where it is 0.
        weight: Weight (D, C), float64.
        bias: Bias (C,).
        ridge: The ridge term that was selected.

    Example:
        >>> mean, std = torch.tensor([1.0]), torch.tensor([2.0])
        >>> weight, bias = torch.tensor([[1.0, -1.0]]).double(), torch.tensor([0.0, 0.5])
        >>> Probe(mean, std, weight, bias, ridge=0.1)(torch.tensor([[3.0]]))
        tensor([[ 1.0000, -0.5000]], dtype=torch.float64)
    """

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor
    ridge: float

    def __call__(self, features: Tensor) -> Tensor:
        """Compute the scores of features.

        Args:
            features: Features (N, D).

        Returns:
            Scores (N, C) in float64; the largest is the prediction. Of several labels those above
            0 are predicted; of regression it is the prediction in the target's own unit (N, 1).
        """
        return (features.double() - self.mean) / self.std @ self.weight + self.bias


def ridge_probe(
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    num_classes: int,
    task: str = CLASSIFICATION,
) -> Probe:
    r"""Fit a ridge regression of the labels on frozen features, in closed form.

    A linear probe (Alain and Bengio, ICLR 2017 workshop) by ridge regression (Hoerl and Kennard
    1970):

    :math:`W = (X^T X / N + \rho I)^{-1} X^T Y / N` with standardised features X and centred one-hot
    classes Y; of several labels 1 and -1; of regression the target. The ridge term is the one of
    :data:`RIDGES` with the best validation score (accuracy, or the task's primary metric), the
    largest of equal ones: neither the training nor the test samples select it. The score on the
    validation samples themselves, as computed over epochs, is the best of eight and so slightly too
    good. Unlike a slice of a joint head, a probe is not affected by miscalibration.

    Args:
        train: Features (N, D) and labels (N,), or (N, L) of several labels.
        val: Features and labels of the samples that select the ridge term.
        num_classes: Number of classes C or labels L; 1 for regression.
        task: The task of the labels.

    Returns:
        The probe.

    Example:
        >>> features, label = torch.tensor([[0.0], [1.0], [5.0], [6.0]]), torch.tensor([0, 0, 1, 1])
        >>> probe = ridge_probe((features, label), (features, label), num_classes=2)
        >>> probe(torch.tensor([[2.0], [4.0]])).argmax(dim=1)
        tensor([0, 1])
    """
    features, label = train[0].double(), train[1]
    mean, std = features.mean(dim=0), features.std(dim=0, correction=0)
    std = torch.where(std > 0, std, 1.0)
    x = (features - mean) / std
    y = _linear_target(label, num_classes, task)
    bias = y.mean(dim=0)
    # One decomposition serves every ridge term. With fewer samples than features it is that of
    # X X^T, for the same weight X^T (X X^T / N + rho I)^-1 Y / N.
    is_wide = len(x) < x.shape[1]
    values, vectors = torch.linalg.eigh((x @ x.T if is_wide else x.T @ x) / len(x))
    rotated = vectors.T @ ((y - bias if is_wide else x.T @ (y - bias)) / len(x))
    best: Probe | None = None
    highest, sign = -math.inf, PRIMARY[task].sign
    for ridge in RIDGES:
        weight = vectors @ (rotated / (values.clamp(min=0) + ridge)[:, None])
        weight = x.T @ weight if is_wide else weight
        probe = Probe(mean, std, weight, bias, ridge)
        score = sign * primary_score(task, probe(val[0]), val[1])
        if score >= highest:
            best, highest = probe, score
    assert best is not None
    return best


def _linear_target(label: Tensor, num_classes: int, task: str) -> Tensor:
    """Return what the scores of a probe are fitted to, (N, C) in float64."""
    if task == CLASSIFICATION:
        return one_hot(label, num_classes).double()
    return 2 * label.double() - 1 if task == MULTILABEL else label.double()[:, None]


def probe_scores(
    features: Mapping[str, Mapping[str, Tensor]],
    label: Mapping[str, Tensor],
    present: Mapping[str, Mapping[str, Tensor]],
    num_classes: int,
    task: str = CLASSIFICATION,
) -> dict[str, dict[str, float]]:
    """Compute the probe's score for every modality's encoder: the task's primary metric.

    Args:
        features: Split (``train``, ``val`` and optionally ``test``) -> modality -> (N, D).
        label: Split -> labels (N,), or (N, L) of several labels.
        present: Split -> modality -> (N,) bool; samples without the modality are left out.
        num_classes: Number of classes C or labels L; 1 for regression.
        task: The task of the labels.

    Returns:
        Split other than ``train`` -> modality -> score; modalities that are missing in all of a
        split's samples are omitted.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
        >>> label, has = torch.tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.bool)
        >>> splits = ("train", "val")
        >>> probe_scores(
        ...     features={split: {"audio": x} for split in splits},
        ...     label=dict.fromkeys(splits, label),
        ...     present={split: {"audio": has} for split in splits},
        ...     num_classes=2,
        ... )
        {'val': {'audio': 1.0}}
    """
    scores: dict[str, dict[str, float]] = {split: {} for split in features if split != "train"}
    for name in features["train"]:
        samples = {
            split: (by_modality[name][present[split][name]], label[split][present[split][name]])
            for split, by_modality in features.items()
        }
        if not len(samples["train"][1]) or not len(samples["val"][1]):
            continue
        probe = ridge_probe(samples["train"], samples["val"], num_classes, task)
        for split, by_name in scores.items():
            split_features, split_label = samples[split]
            if len(split_label):
                by_name[name] = primary_score(task, probe(split_features), split_label)
    return scores
