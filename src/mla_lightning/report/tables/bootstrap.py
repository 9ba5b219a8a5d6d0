"""Two models on the same samples: accuracy, F1 and calibration error, and how sure their gap is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

#: Draws of the bootstrap, and how many of them are held at a time.
NUM_DRAWS, AT_ONCE = 2000, 100
NUM_BINS = 15
MEASURES = ("accuracy", "macro_f1", "ece")


@dataclass(frozen=True)
class Gap:
    """A measure of two models, in [0, 1], and the 95 % interval of the second less the first."""

    values: tuple[float, float]
    low: float
    high: float

    @property
    def difference(self) -> float:
        """The second less the first."""
        return self.values[1] - self.values[0]


def gaps(label: np.ndarray, logits: tuple[np.ndarray, np.ndarray]) -> dict[str, Gap]:
    """Compare two models by a paired bootstrap over the samples: both are drawn the same ones.

    Args:
        label: Classes (N,), at least one.
        logits: Of each model (N, C).

    Returns:
        Measure of :data:`MEASURES` -> the models' values and the percentile interval of their gap.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    num = len(label)
    sums = [_summands(label, z) for z in logits]
    whole = [_measures(np.ones((1, num)), parts, logits[0].shape[1]) for parts in sums]
    drawn: list[np.ndarray] = []
    for start in range(0, NUM_DRAWS, AT_ONCE):
        rows = rng.integers(0, num, (min(AT_ONCE, NUM_DRAWS - start), num))
        counts = np.stack([np.bincount(row, minlength=num) for row in rows]).astype(float)
        a, b = (_measures(counts, parts, logits[0].shape[1]) for parts in sums)
        drawn.append(b - a)
    low, high = np.nanquantile(np.concatenate(drawn), [0.025, 0.975], axis=0)
    return {
        name: Gap(
            (float(whole[0][0, place]), float(whole[1][0, place])),
            float(low[place]),
            float(high[place]),
        )
        for place, name in enumerate(MEASURES)
    }


def _summands(label: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Write what is summed over samples, a row each: all measures are functions of these sums.

    Returns:
        (N, 3 C + 2 B): per class whether it is answered right, there, answered; per bin of
        confidence whether it is right there, and its confidence.
    """
    import numpy as np

    num_classes = logits.shape[1]
    answer = logits.argmax(axis=1)
    confidence = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    edges = np.linspace(0, 1, NUM_BINS + 1)
    bins = np.eye(NUM_BINS)[np.minimum(np.searchsorted(edges, confidence, "right"), NUM_BINS) - 1]
    is_right = answer == label
    there, answered = np.eye(num_classes)[label], np.eye(num_classes)[answer]
    parts = (there * answered, there, answered)
    return np.hstack([*parts, bins * is_right[:, None], bins * confidence[:, None]])


def _measures(counts: np.ndarray, summands: np.ndarray, num_classes: int) -> np.ndarray:
    """Compute the measures of each draw.

    Args:
        counts: How often each sample was drawn (D, N).
        summands: See :func:`_summands`.
        num_classes: Number of classes.

    Returns:
        (D, 3), in the order of :data:`MEASURES`.
    """
    import numpy as np

    sums = counts @ summands
    num = counts.sum(axis=1)
    right, there, answered = (
        sums[:, place * num_classes : (place + 1) * num_classes] for place in range(3)
    )
    rest = sums[:, 3 * num_classes :]
    right_there, confidence = rest[:, :NUM_BINS], rest[:, NUM_BINS:]
    either = there + answered
    counts_for = either > 0  # classes that occur or are answered
    f1 = np.where(counts_for, 2 * right / np.where(counts_for, either, 1), 0.0)
    return np.stack(
        [
            right.sum(axis=1) / num,
            f1.sum(axis=1) / counts_for.sum(axis=1),
            np.abs(right_there - confidence).sum(axis=1) / num,
        ],
        axis=1,
    )
