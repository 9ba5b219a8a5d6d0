"""Ridge probe: accuracy of a linear classifier on a frozen encoder's features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

#: Candidates of the ridge term, as fractions of the standardised features' mean variance.
RIDGES = tuple(10.0**power for power in range(-5, 3))


@dataclass(frozen=True)
class Probe:
    """A linear classifier of features.

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
            Scores (N, C) in float64; the largest is the prediction.
        """
        return (features.double() - self.mean) / self.std @ self.weight + self.bias


def ridge_probe(
    train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], num_classes: int
) -> Probe:
    r"""Fit a ridge regression of the classes on frozen features, in closed form.

    A linear probe (Alain and Bengio, ICLR 2017 workshop) by ridge regression (Hoerl and Kennard
    1970):

    :math:`W = (X^T X / N + \rho I)^{-1} X^T Y / N` with standardised features X and centred one-hot
    classes Y. The ridge term is the one of :data:`RIDGES` with the best validation accuracy, the
    largest of equal ones: neither the training nor the test samples select it. The accuracy on the
    validation samples themselves, as computed over epochs, is the best of eight and so slightly too
    high. Unlike a slice of a joint head, a probe is not affected by miscalibration.

    Args:
        train: Features (N, D) and labels (N,).
        val: Features and labels of the samples that select the ridge term.
        num_classes: Number of classes C.

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
    y = one_hot(label, num_classes).double()
    bias = y.mean(dim=0)
    # One decomposition serves every ridge term. With fewer samples than features it is that of
    # X X^T, for the same weight X^T (X X^T / N + rho I)^-1 Y / N.
    is_wide = len(x) < x.shape[1]
    values, vectors = torch.linalg.eigh((x @ x.T if is_wide else x.T @ x) / len(x))
    rotated = vectors.T @ ((y - bias if is_wide else x.T @ (y - bias)) / len(x))
    best: Probe | None = None
    max_correct = -1
    for ridge in RIDGES:
        weight = vectors @ (rotated / (values.clamp(min=0) + ridge)[:, None])
        weight = x.T @ weight if is_wide else weight
        probe = Probe(mean, std, weight, bias, ridge)
        num_correct = int((probe(val[0]).argmax(dim=1) == val[1]).sum())
        if num_correct >= max_correct:
            best, max_correct = probe, num_correct
    assert best is not None
    return best


def probe_accuracies(
    features: Mapping[str, Mapping[str, Tensor]],
    label: Mapping[str, Tensor],
    present: Mapping[str, Mapping[str, Tensor]],
    num_classes: int,
) -> dict[str, dict[str, float]]:
    """Compute the probe's accuracy for every modality's encoder.

    Args:
        features: Split (``train``, ``val`` and optionally ``test``) -> modality -> (N, D).
        label: Split -> labels (N,).
        present: Split -> modality -> (N,) bool; samples without the modality are left out.
        num_classes: Number of classes C.

    Returns:
        Split other than ``train`` -> modality -> accuracy; modalities that are missing in all of a
        split's samples are omitted.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
        >>> label, has = torch.tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.bool)
        >>> splits = ("train", "val")
        >>> probe_accuracies(
        ...     features={split: {"audio": x} for split in splits},
        ...     label=dict.fromkeys(splits, label),
        ...     present={split: {"audio": has} for split in splits},
        ...     num_classes=2,
        ... )
        {'val': {'audio': 1.0}}
    """
    accuracies: dict[str, dict[str, float]] = {split: {} for split in features if split != "train"}
    for name in features["train"]:
        samples = {
            split: (by_modality[name][present[split][name]], label[split][present[split][name]])
            for split, by_modality in features.items()
        }
        if not len(samples["train"][1]) or not len(samples["val"][1]):
            continue
        probe = ridge_probe(samples["train"], samples["val"], num_classes)
        for split, by_name in accuracies.items():
            split_features, split_label = samples[split]
            if len(split_label):
                is_correct = probe(split_features).argmax(dim=1) == split_label
                by_name[name] = float(is_correct.double().mean())
    return accuracies
