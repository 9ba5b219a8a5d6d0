"""Paired bootstrap of two models on the same samples: accuracy, macro F1, calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

#: Number of bootstrap resamples, and how many of them are computed at a time.
NUM_RESAMPLES, CHUNK_SIZE = 2000, 100
NUM_BINS = 15
MEASURES = ("accuracy", "macro_f1", "ece")


@dataclass(frozen=True)
class PairedDifference:
    """A measure of two models and the difference of the second to the first.

    Attributes:
        values: The measure of both models, in [0, 1].
        low: Lower end of the difference's 95 % confidence interval.
        high: Upper end.
    """

    values: tuple[float, float]
    low: float
    high: float

    @property
    def difference(self) -> float:
        """The second model's value minus the first one's."""
        return self.values[1] - self.values[0]


def paired_differences(
    label: np.ndarray, logits: tuple[np.ndarray, np.ndarray]
) -> dict[str, PairedDifference]:
    """Compare two models by a paired bootstrap over the samples, with a fixed seed.

    Each resample holds the same samples for both models. Intervals are percentile intervals
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).

    Args:
        label: Classes (N,), N >= 1.
        logits: Logits (N, C) of each model.

    Returns:
        Measure of :data:`MEASURES` -> values and difference.

    Example:
        >>> import numpy as np
        >>> label = np.array([0, 1] * 50)
        >>> correct = 4.0 * np.eye(2)[label]
        >>> half_wrong = np.where(np.arange(100)[:, None] < 50, correct, -correct)
        >>> accuracy = paired_differences(label, (half_wrong, correct))["accuracy"]
        >>> accuracy.values, accuracy.difference
        ((0.5, 1.0), 0.5)
        >>> 0.35 < accuracy.low < 0.5 < accuracy.high < 0.65
        True
    """
    import numpy as np

    rng = np.random.default_rng(0)
    num, num_classes = logits[0].shape
    terms = [_terms(label, z) for z in logits]
    full = [_measures(np.ones((1, num)), t, num_classes)[0] for t in terms]
    differences: list[np.ndarray] = []
    for start in range(0, NUM_RESAMPLES, CHUNK_SIZE):
        resamples = rng.integers(0, num, (min(CHUNK_SIZE, NUM_RESAMPLES - start), num))
        counts = np.stack([np.bincount(row, minlength=num) for row in resamples]).astype(float)
        first, second = (_measures(counts, t, num_classes) for t in terms)
        differences.append(second - first)
    low, high = np.nanquantile(np.concatenate(differences), [0.025, 0.975], axis=0)
    return {
        name: PairedDifference(
            (float(full[0][i]), float(full[1][i])), float(low[i]), float(high[i])
        )
        for i, name in enumerate(MEASURES)
    }


def _terms(label: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return per sample the terms whose sums over samples give all measures.

    Returns:
        (N, 3 C + 2 B): per class whether the sample is a true positive, has the class, is
        predicted as the class; per confidence bin whether it is correct, and its confidence.
    """
    import numpy as np

    num_classes = logits.shape[1]
    prediction = logits.argmax(axis=1)
    confidence = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    edges = np.linspace(0, 1, NUM_BINS + 1)
    bins = np.eye(NUM_BINS)[np.minimum(np.searchsorted(edges, confidence, "right"), NUM_BINS) - 1]
    is_correct = prediction == label
    actual, predicted = np.eye(num_classes)[label], np.eye(num_classes)[prediction]
    by_class = (actual * predicted, actual, predicted)
    return np.hstack([*by_class, bins * is_correct[:, None], bins * confidence[:, None]])


def _measures(counts: np.ndarray, terms: np.ndarray, num_classes: int) -> np.ndarray:
    """Compute the measures of each resample.

    Args:
        counts: How often each resample holds each sample (R, N).
        terms: The terms that :func:`_terms` returns.
        num_classes: Number of classes.

    Returns:
        (R, 3), in the order of :data:`MEASURES`.
    """
    import numpy as np

    sums = counts @ terms
    num = counts.sum(axis=1)
    true_positives, actual, predicted = (
        sums[:, i * num_classes : (i + 1) * num_classes] for i in range(3)
    )
    bin_sums = sums[:, 3 * num_classes :]
    correct, confidence = bin_sums[:, :NUM_BINS], bin_sums[:, NUM_BINS:]
    total = actual + predicted
    has_f1 = total > 0  # classes that occur or are predicted
    f1 = np.where(has_f1, 2 * true_positives / np.where(has_f1, total, 1), 0.0)
    return np.stack(
        [
            true_positives.sum(axis=1) / num,
            f1.sum(axis=1) / has_f1.sum(axis=1),
            np.abs(correct - confidence).sum(axis=1) / num,
        ],
        axis=1,
    )
