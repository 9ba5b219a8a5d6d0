"""Paired bootstrap of two models on the same samples, by the metrics of their task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mla_lightning.run_folder.tasks import CLASSIFICATION, MULTILABEL, REGRESSION

if TYPE_CHECKING:
    import numpy as np

NUM_RESAMPLES = 2000
#: Number of cells that are counted at a time, in all resamples together; bounds the memory.
CHUNK_CELLS = 2**21
#: Task -> the measures that are compared, the primary metric first.
MEASURES: Mapping[str, tuple[str, ...]] = {
    CLASSIFICATION: ("accuracy", "macro_f1", "ece"),
    REGRESSION: ("mae", "correlation"),
    MULTILABEL: ("micro_f1", "macro_f1"),
}
#: Function from the samples of each resample (R, N) to its measures (R, K).
Measure = Callable[[Any], Any]


@dataclass(frozen=True)
class PairedDifference:
    """A measure of two models and the difference of the second to the first.

    Attributes:
        values: The measure of both models.
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
    label: np.ndarray, logits: tuple[np.ndarray, np.ndarray], task: str = CLASSIFICATION
) -> dict[str, PairedDifference]:
    """Compare two models by a paired bootstrap over the samples, with a fixed seed.

    Each resample holds the same samples for both models. Intervals are percentile intervals
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).

    Args:
        label: Labels, N >= 1: classes (N,), numbers (N,), or 0 and 1 for each label (N, L).
        logits: Logits (N, C) of each model; predicted numbers (N, 1) of regression.
        task: The task.

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
        >>> target = np.linspace(-3, 3, 100)
        >>> errors = (target[:, None] + 1, target[:, None] - 0.5)
        >>> mae = paired_differences(target, errors, "regression")["mae"]
        >>> [round(float(value), 6) for value in (*mae.values, mae.low, mae.high)]
        [1.0, 0.5, -0.5, -0.5]
    """
    import numpy as np

    rng = np.random.default_rng(0)
    num, num_classes = logits[0].shape
    first, second = (_MEASURES[task](label, z) for z in logits)
    all_samples = np.arange(num)[None]
    full = [measure(all_samples)[0] for measure in (first, second)]
    differences: list[np.ndarray] = []
    chunk_size = max(1, CHUNK_CELLS // max(num, num_classes**2))
    for start in range(0, NUM_RESAMPLES, chunk_size):
        rows = rng.integers(0, num, (min(chunk_size, NUM_RESAMPLES - start), num))
        before = first(rows)
        differences.append(second(rows) - before)
    low, high = np.quantile(np.concatenate(differences), [0.025, 0.975], axis=0)
    return {
        name: PairedDifference(
            (float(full[0][i]), float(full[1][i])), float(low[i]), float(high[i])
        )
        for i, name in enumerate(MEASURES[task])
    }


def _classified(label: np.ndarray, logits: np.ndarray) -> Measure:
    import numpy as np

    from mla_lightning import counts

    prediction, confidence = counts.predict_classes(logits)
    is_correct = prediction == label

    def measure(rows: np.ndarray) -> np.ndarray:
        confusion = counts.confusion_matrix(label[rows], prediction[rows], logits.shape[1])
        error = counts.calibration_error(confidence[rows], is_correct[rows])
        return np.stack([counts.accuracy(confusion), counts.macro_f1(confusion), error], axis=1)

    return measure


def _regressed(label: np.ndarray, logits: np.ndarray) -> Measure:
    import numpy as np

    target, prediction = label.astype(float), logits[:, 0].astype(float)

    def measure(rows: np.ndarray) -> np.ndarray:
        y, z = target[rows], prediction[rows]
        mae = np.abs(z - y).mean(axis=1)
        y, z = (v - v.mean(axis=1, keepdims=True) for v in (y, z))
        scale = np.sqrt((y**2).sum(axis=1) * (z**2).sum(axis=1))
        # the correlation with a constant prediction is 0
        correlation = np.where(scale > 0, (y * z).sum(axis=1) / np.where(scale > 0, scale, 1), 0)
        return np.stack([mae, correlation], axis=1)

    return measure


def _labelled(label: np.ndarray, logits: np.ndarray) -> Measure:
    import numpy as np

    has_label, is_predicted = label > 0, logits > 0
    hits, errors = (
        (has_label & is_predicted).astype(float),
        (has_label ^ is_predicted).astype(float),
    )

    def measure(rows: np.ndarray) -> np.ndarray:
        num_resamples, num = rows.shape
        cells = rows + num * np.arange(num_resamples)[:, None]
        repeats = np.bincount(cells.ravel(), minlength=num_resamples * num).reshape(rows.shape)
        true, false = repeats @ hits, repeats @ errors  # (R, L)
        total = 2 * true + false
        micro = 2 * true.sum(axis=1) / np.maximum(total.sum(axis=1), 1)
        by_label = 2 * true / np.maximum(total, 1)
        macro = by_label.sum(axis=1) / np.maximum((total > 0).sum(axis=1), 1)
        return np.stack([micro, macro], axis=1)

    return measure


_MEASURES: Mapping[str, Callable[[np.ndarray, np.ndarray], Measure]] = {
    CLASSIFICATION: _classified,
    REGRESSION: _regressed,
    MULTILABEL: _labelled,
}
