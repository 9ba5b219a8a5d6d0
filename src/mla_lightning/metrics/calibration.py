"""Calibration: agreement of confidence and accuracy (Guo et al., ICML 2017)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mla_lightning.counts import NUM_BINS, confidence_bins
from mla_lightning.metrics.outcome import as_array


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy in bins of confidence; empty bins are omitted.

    Attributes:
        num: Number of samples in each bin.
        confidence: Mean confidence in each bin.
        accuracy: Accuracy in each bin.

    Example:
        Two bins of 3 and 1 samples, 0.1 and 0.3 apart:

        >>> bins = Reliability(num=(3, 1), confidence=(0.9, 0.3), accuracy=(0.8, 0.0))
        >>> round(bins.ece, 4), round(3 / 4 * 0.1 + 1 / 4 * 0.3, 4)
        (0.15, 0.15)
    """

    num: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]

    @property
    def ece(self) -> float:
        r"""Expected calibration error: :math:`\sum_b \frac{n_b}{N} |acc_b - conf_b|`.

        Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015;
        for networks Guo et al., ICML 2017.
        """
        total = sum(self.num)
        bins = zip(self.num, self.confidence, self.accuracy, strict=True)
        return sum(num / total * abs(accuracy - confidence) for num, confidence, accuracy in bins)

    def to_dict(self) -> dict[str, Any]:
        """Return the bins and the error as plain data for JSON."""
        return {**{key: list(values) for key, values in asdict(self).items()}, "ece": self.ece}


def reliability(
    confidence: Tensor, is_correct: Tensor, *, equal_mass: bool = False, num_bins: int = NUM_BINS
) -> Reliability:
    """Compute confidence and accuracy in bins of confidence.

    Args:
        confidence: Probability of the predicted class, (N,).
        is_correct: Whether the prediction is the label, (N,) bool.
        equal_mass: Whether bins have equally many samples (Nixon et al., CVPR 2019 workshops)
            instead of equal width.
        num_bins: Number of bins.

    Returns:
        The bins.

    Example:
        >>> confidence = torch.tensor([0.25, 0.75, 1.0])
        >>> bins = reliability(confidence, torch.tensor([False, True, False]), num_bins=2)
        >>> bins.num, bins.confidence, bins.accuracy
        ((1, 2), (0.25, 0.875), (0.0, 0.5))
    """
    values, correct = as_array(confidence).astype(float), as_array(is_correct).astype(float)
    if equal_mass:
        bin_N = np.empty(len(values), dtype=int)
        parts = np.array_split(values.argsort(kind="stable"), num_bins)
        for number, rows in enumerate(parts):
            bin_N[rows] = number
    else:
        bin_N = confidence_bins(values, num_bins)
    num = np.bincount(bin_N, minlength=num_bins)
    used = num.nonzero()[0]
    sums = (np.bincount(bin_N, weights, num_bins) for weights in (values, correct))
    return Reliability(
        tuple(num[used].tolist()), *(tuple((sum_[used] / num[used]).tolist()) for sum_ in sums)
    )


def temperature(logits: Tensor, label: Tensor) -> float:
    r"""Fit the temperature T > 0 that minimises the cross-entropy of :math:`z / T`.

    It is fitted on validation and applied elsewhere, and changes no prediction. The loss is convex
    in 1/T, so a search between 1/100 and 100 finds the minimum (Guo et al., ICML 2017).

    Args:
        logits: Logits (N, C).
        label: Labels (N,).

    Returns:
        The temperature.

    Example:
        Three of four predictions are correct, so the best confidence is 3/4, at a difference of the
        logits of ln 3:

        >>> logits = torch.tensor([[3.0, 0.0]] * 4)
        >>> round(temperature(logits, torch.tensor([0, 0, 0, 1])), 2), round(3 / 1.0986, 2)
        (2.73, 2.73)
    """
    from scipy.optimize import minimize_scalar

    logits = logits.double()

    def loss(log_t: float) -> float:
        return float(cross_entropy(logits / torch.tensor(log_t).exp(), label))

    minimum = minimize_scalar(loss, bounds=(-4.605, 4.605), method="bounded")
    return float(torch.tensor(float(minimum.x)).exp())


def entropy_bins(logits: Tensor, label: Tensor, num_bins: int = 5) -> dict[str, list[float]]:
    r"""Compute accuracy by entropy, in bins of equally many samples, smallest entropy first.

    :math:`H_n = -\sum_c p_{nc} \log p_{nc}`. Weights by entropy (MLA, CVPR 2024) assume that
    accuracy decreases with entropy.

    Args:
        logits: Logits (N, C).
        label: Labels (N,).
        num_bins: Number of bins.

    Returns:
        ``entropy`` (mean, in nats) and ``accuracy`` of each bin.

    Example:
        A certain prediction that is correct, and an undecided one (ln 2 nats) that is not:

        >>> logits = torch.tensor([[0.0, 0.0], [99.0, 0.0]])
        >>> bins = entropy_bins(logits, torch.tensor([1, 0]), num_bins=2)
        >>> [round(value, 4) for value in bins["entropy"]], bins["accuracy"]
        ([0.0, 0.6931], [1.0, 0.0])
    """
    log_p = logits.double().log_softmax(dim=1)
    entropy = -(log_p.exp() * log_p).sum(dim=1)
    is_correct = (logits.argmax(dim=1) == label).double()
    groups = entropy.argsort(stable=True).tensor_split(min(num_bins, len(label)))
    return {
        "entropy": [float(entropy[rows].mean()) for rows in groups],
        "accuracy": [float(is_correct[rows].mean()) for rows in groups],
    }
