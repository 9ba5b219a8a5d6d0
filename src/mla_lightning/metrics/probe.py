"""The ridge probe: what a frozen encoder knows, whatever the head above it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

#: Ridge terms to choose of, as shares of the mean variance of the standardised features.
RIDGES = tuple(10.0**power for power in range(-5, 3))


@dataclass(frozen=True)
class Probe:
    """A linear classifier of features.

    Attributes:
        mean: Mean of the training features (D,).
        std: Their deviation (D,), 1 where it is 0.
        weight: Weight (D, C), float64.
        bias: Bias (C,).
        ridge: The ridge term that was chosen.
    """

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor
    ridge: float

    def __call__(self, features: Tensor) -> Tensor:
        """Score features.

        Args:
            features: (N, D).

        Returns:
            (N, C) float64; the largest is the answer.
        """
        return (features.double() - self.mean) / self.std @ self.weight + self.bias


def ridge_probe(
    train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], num_classes: int
) -> Probe:
    r"""Fit a ridge regression of the classes on frozen features, in closed form.

    A linear probe (Alain and Bengio, ICLR 2017 workshop) by ridge regression (Hoerl and Kennard
    1970).

    :math:`W = (X^T X / N + \rho I)^{-1} X^T Y / N` with standardised features X and centred one-hot
    classes Y. The ridge term is the one of :data:`RIDGES` with the best validation accuracy, the
    largest of equals: neither the training nor the test samples choose it. Scored on the validation
    samples themselves, as over epochs, it is the best of eight and so a little too high. Unlike a
    slice of a
    joint head, a probe does not suffer from being uncalibrated.

    Args:
        train: Features (N, D) and labels (N,).
        val: The same of the samples that choose the ridge term.
        num_classes: Number of classes C.

    Returns:
        The probe.
    """
    features, label = train[0].double(), train[1]
    mean, std = features.mean(dim=0), features.std(dim=0, correction=0)
    std = torch.where(std > 0, std, 1.0)
    x = (features - mean) / std
    y = one_hot(label, num_classes).double()
    bias = y.mean(dim=0)
    # One decomposition serves every ridge term. Of fewer samples than features it is that of the
    # samples' products, for the same weight X^T (X X^T / N + rho I)^-1 Y / N.
    is_wide = len(x) < x.shape[1]
    values, vectors = torch.linalg.eigh((x @ x.T if is_wide else x.T @ x) / len(x))
    turned = vectors.T @ ((y - bias if is_wide else x.T @ (y - bias)) / len(x))
    best: Probe | None = None
    best_right = -1
    for ridge in RIDGES:
        weight = vectors @ (turned / (values.clamp(min=0) + ridge)[:, None])
        weight = x.T @ weight if is_wide else weight
        probe = Probe(mean, std, weight, bias, ridge)
        num_right = int((probe(val[0]).argmax(dim=1) == val[1]).sum())
        if num_right >= best_right:
            best, best_right = probe, num_right
    assert best is not None
    return best


def probe_accuracies(
    features: Mapping[str, Mapping[str, Tensor]],
    label: Mapping[str, Tensor],
    present: Mapping[str, Mapping[str, Tensor]],
    num_classes: int,
) -> dict[str, dict[str, float]]:
    """Probe every modality's encoder.

    Args:
        features: Split (``train``, ``val`` and perhaps ``test``) -> modality -> (N, D).
        label: Split -> (N,).
        present: Split -> modality -> (N,) bool; samples without the modality are left out.
        num_classes: Number of classes C.

    Returns:
        Split other than ``train`` -> modality -> share of right answers; modalities that a split's
        samples all lack are left out.
    """
    found: dict[str, dict[str, float]] = {split: {} for split in features if split != "train"}
    for name in features["train"]:
        kept = {
            split: (of[name][present[split][name]], label[split][present[split][name]])
            for split, of in features.items()
        }
        if not len(kept["train"][1]) or not len(kept["val"][1]):
            continue
        probe = ridge_probe(kept["train"], kept["val"], num_classes)
        for split, accuracies in found.items():
            values, wanted = kept[split]
            if len(wanted):
                is_right = probe(values).argmax(dim=1) == wanted
                accuracies[name] = float(is_right.double().mean())
    return found
