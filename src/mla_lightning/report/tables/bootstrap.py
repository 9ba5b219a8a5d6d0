"""Paired bootstrap of two models on the same samples: accuracy, macro F1, calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

NUM_RESAMPLES = 2000
#: Number of cells that are counted at a time, in all resamples together; bounds the memory.
CHUNK_CELLS = 2**21
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

    from mla_lightning.counts import predict_classes

    rng = np.random.default_rng(0)
    num, num_classes = logits[0].shape
    predicted = [predict_classes(z) for z in logits]
    all_samples = np.arange(num)[None]
    full = [_measures(label, *values, all_samples, num_classes)[0] for values in predicted]
    differences: list[np.ndarray] = []
    chunk_size = max(1, CHUNK_CELLS // max(num, num_classes**2))
    for start in range(0, NUM_RESAMPLES, chunk_size):
        rows = rng.integers(0, num, (min(chunk_size, NUM_RESAMPLES - start), num))
        first, second = (_measures(label, *values, rows, num_classes) for values in predicted)
        differences.append(second - first)
    low, high = np.quantile(np.concatenate(differences), [0.025, 0.975], axis=0)
    return {
        name: PairedDifference(
            (float(full[0][i]), float(full[1][i])), float(low[i]), float(high[i])
        )
        for i, name in enumerate(MEASURES)
    }


def _measures(
    label: np.ndarray,
    prediction: np.ndarray,
    confidence: np.ndarray,
    rows: np.ndarray,
    num_classes: int,
) -> np.ndarray:
    """Compute the measures of each resample.

    Args:
        label: Labels (N,).
        prediction: Predicted classes (N,).
        confidence: Their probabilities (N,).
        rows: Samples of each resample (R, N).
        num_classes: Number of classes.

    Returns:
        (R, 3), in the order of :data:`MEASURES`.
    """
    import numpy as np

    from mla_lightning import counts

    confusion = counts.confusion_matrix(label[rows], prediction[rows], num_classes)
    error = counts.calibration_error(confidence[rows], (prediction == label)[rows])
    return np.stack([counts.accuracy(confusion), counts.macro_f1(confusion), error], axis=1)
