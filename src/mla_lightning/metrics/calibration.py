"""Whether confidence tells how often an answer is right (Guo et al., ICML 2017)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

NUM_BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in bins; empty bins are left out.

    Attributes:
        num: Samples in each bin.
        confidence: Mean confidence in each bin.
        accuracy: Share of right answers in each bin.
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
        return sum(num / total * abs(right - sure) for num, sure, right in bins)

    def spelled(self) -> dict[str, Any]:
        """Return it JSON-able, with the error."""
        return {**{key: list(values) for key, values in asdict(self).items()}, "ece": self.ece}


def reliability(
    confidence: Tensor, is_right: Tensor, *, equal_mass: bool = False, num_bins: int = NUM_BINS
) -> Reliability:
    """Group answers by confidence.

    Args:
        confidence: (N,) probability of the answered class.
        is_right: (N,) bool.
        equal_mass: Bins of equally many samples (Nixon et al., CVPR 2019 workshops), not of equal
            width.
        num_bins: Number of bins.

    Returns:
        The bins.
    """
    if equal_mass:
        order = confidence.argsort(stable=True)
        groups = list(order.tensor_split(min(num_bins, len(order))))
    else:
        # Right-closed bins (a, b], as the definition has them.
        place = (confidence.double() * num_bins).ceil().long().clamp(1, num_bins) - 1
        groups = [(place == number).nonzero()[:, 0] for number in range(num_bins)]
    groups = [rows for rows in groups if len(rows)]
    return Reliability(
        tuple(len(rows) for rows in groups),
        tuple(float(confidence[rows].double().mean()) for rows in groups),
        tuple(float(is_right[rows].double().mean()) for rows in groups),
    )


def temperature(logits: Tensor, label: Tensor) -> float:
    r"""Fit the temperature T > 0 that minimises the cross-entropy of :math:`z / T`.

    To be fitted on validation and applied elsewhere; it changes no answer. The loss is convex in
    1/T, so a search between 1/100 and 100 finds the minimum.

    Args:
        logits: (N, C).
        label: (N,).

    Returns:
        T.
    """
    from scipy.optimize import minimize_scalar

    logits = logits.double()

    def loss(log_t: float) -> float:
        return float(cross_entropy(logits / torch.tensor(log_t).exp(), label))

    found = minimize_scalar(loss, bounds=(-4.605, 4.605), method="bounded")
    return float(torch.tensor(float(found.x)).exp())


def entropy_bins(logits: Tensor, label: Tensor, num_bins: int = 5) -> dict[str, list[float]]:
    r"""Tell accuracy by entropy, in bins of equally many samples, least entropy first.

    :math:`H_n = -\sum_c p_{nc} \log p_{nc}`, sorted and cut into equal parts; a part's accuracy is
    the share of its samples that are answered right. Whether entropy tells right from wrong is what
    weights by entropy (MLA, CVPR 2024) rest on.

    Args:
        logits: (N, C).
        label: (N,).
        num_bins: Number of bins.

    Returns:
        ``entropy`` (mean, in nats) and ``accuracy`` of each bin.
    """
    log_p = logits.double().log_softmax(dim=1)
    entropy = -(log_p.exp() * log_p).sum(dim=1)
    is_right = (logits.argmax(dim=1) == label).double()
    groups = entropy.argsort(stable=True).tensor_split(min(num_bins, len(label)))
    return {
        "entropy": [float(entropy[rows].mean()) for rows in groups],
        "accuracy": [float(is_right[rows].mean()) for rows in groups],
    }
