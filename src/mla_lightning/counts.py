"""Confusion matrix, accuracy, F1 and calibration error, from counts of samples.

The only place that computes them: the metrics of a training run, its diagnostics, the bootstrap of
``mla report compare`` and the W&B tables call these functions, so that one set of logits has one
number. They are functions of NumPy arrays, because reports do not load torch. Counts on the CPU are
deterministic. They take memory for N samples and for C x C cells, never for the product of both.
"""

from __future__ import annotations

import numpy as np

#: Number of bins of confidence.
NUM_BINS = 15
#: Number of logits whose exponentials are held at a time; they fit the cache of a CPU.
BLOCK_SIZE = 2**17


def predict_classes(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the predicted class of each sample and its probability, the confidence.

    The confidence is :math:`1 / \sum_c \exp(z_c - \max_k z_k)`. Exponentials have the precision of
    the logits; from their sum on, all numbers are float64.

    Args:
        logits: Logits (N, C).

    Returns:
        Predicted classes (N,), the first of equal ones; confidences (N,) in float64.

    Example:
        >>> predict_classes(np.log([[0.2, 0.8], [0.5, 0.5]]))
        (array([1, 0]), array([0.8, 0.5]))
    """
    prediction = np.empty(len(logits), dtype=np.int64)
    total = np.empty(len(logits))
    step = max(1, BLOCK_SIZE // logits.shape[1])
    with np.errstate(invalid="ignore"):  # the confidence of infinite logits is NaN
        for start in range(0, len(logits), step):
            rows = slice(start, start + step)
            block = logits[rows]
            largest = block[np.arange(len(block)), block.argmax(axis=1, out=prediction[rows])]
            powers = block - largest[:, None]
            np.exp(powers, out=powers)
            np.einsum("nc->n", powers, out=total[rows], dtype=float, casting="safe")
    return prediction, 1 / total


def confusion_matrix(label: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Count samples by label and predicted class.

    Args:
        label: Labels (..., N).
        prediction: Predicted classes (..., N).
        num_classes: Number of classes C.

    Returns:
        Number of samples by label (row) and prediction (column), (..., C, C).

    Example:
        >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), num_classes=2)
        array([[1, 1],
               [0, 1]])
    """
    cells = _sums(label * num_classes + prediction, num_classes**2)
    return cells.reshape(*label.shape[:-1], num_classes, num_classes)


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """Return the fraction of samples whose prediction is the label.

    Args:
        confusion: Confusion matrix (..., C, C).

    Returns:
        Accuracy (...), in [0, 1].

    Example:
        >>> float(accuracy(np.array([[3, 1], [0, 4]])))
        0.875
    """
    return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1))


def f1_by_class(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Return :math:`F_1 = 2 TP / (2 TP + FP + FN)` of each class.

    Args:
        confusion: Confusion matrix (..., C, C).

    Returns:
        F1 (..., C), in [0, 1], and whether the class occurs or is predicted (..., C); the F1 of
        other classes is 0.

    Example:
        >>> f1_by_class(np.array([[1, 1, 0], [0, 0, 0], [0, 0, 0]]))
        (array([0.66666667, 0.        , 0.        ]), array([ True,  True, False]))
    """
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    either = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    return 2 * correct / np.maximum(either, 1), either > 0


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Return the mean F1 over the classes that occur or are predicted.

    Args:
        confusion: Confusion matrix (..., C, C).

    Returns:
        Mean F1 (...), in [0, 1].

    Example:
        >>> round(float(macro_f1(np.array([[1, 1, 0], [0, 0, 0], [0, 0, 0]]))), 4)
        0.3333
    """
    f1, occurs = f1_by_class(confusion)
    return f1.sum(axis=-1) / occurs.sum(axis=-1)


def f1_by_label(label: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return F1 of each label of samples with several labels; a label is predicted above 0.

    Args:
        label: 0 and 1 (N, L).
        logits: Logits (N, L).

    Returns:
        F1 (L,), in [0, 1]; 0 for a label that neither occurs nor is predicted.

    Example:
        >>> label = np.array([[1, 0], [1, 1]])
        >>> f1_by_label(label, np.array([[1.0, 1.0], [-1.0, 1.0]])).round(3)
        array([0.667, 0.667])
    """
    has_label, is_predicted = label > 0, logits > 0
    hits = (has_label & is_predicted).sum(axis=0)
    total = has_label.sum(axis=0) + is_predicted.sum(axis=0)
    return 2 * hits / np.maximum(total, 1)


def confidence_bins(confidence: np.ndarray, num_bins: int = NUM_BINS) -> np.ndarray:
    """Return the bin of equal width that each confidence falls into.

    Bin b of B holds confidences in (b / B, (b + 1) / B]; the first one also holds 0.

    Args:
        confidence: Confidences (...), in [0, 1].
        num_bins: Number of bins B.

    Returns:
        Numbers of bins (...), in [0, B).

    Example:
        >>> confidence_bins(np.array([0.0, 1 / 3, 0.34, 1.0]), num_bins=3)
        array([0, 0, 1, 2])
    """
    return np.searchsorted(np.arange(1, num_bins) / num_bins, confidence)


def calibration_error(confidence: np.ndarray, is_correct: np.ndarray) -> np.ndarray:
    r"""Compute the expected calibration error over 15 bins of equal width.

    .. math:: \sum_b \frac{n_b}{N} \, |\mathrm{accuracy}_b - \mathrm{confidence}_b|
              = \frac{1}{N} \sum_b \Big| \sum_{n \in b} (\mathrm{correct}_n - p_n) \Big|

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    Args:
        confidence: Probability of the predicted class (..., N).
        is_correct: Whether the prediction is the label (..., N).

    Returns:
        Error (...), in [0, 1].

    Example:
        Four samples at confidence 1, three of which are correct, and four correct ones at 0.9:

        >>> confidence = np.array([1.0] * 4 + [0.9] * 4)
        >>> round(float(calibration_error(confidence, np.array([1, 1, 1, 0] + [1] * 4))), 3)
        0.175
    """
    gaps = _sums(confidence_bins(confidence), NUM_BINS, is_correct - confidence)
    return np.abs(gaps).sum(axis=-1) / confidence.shape[-1]


def _sums(cells: np.ndarray, num_cells: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the number, or the sum of the weights, of the samples in each cell, (..., cells).

    One count of all leading dimensions: each has its own range of cells.
    """
    rows = cells.reshape(-1, cells.shape[-1])
    rows = rows + num_cells * np.arange(len(rows))[:, None]
    flat = None if weights is None else weights.ravel()
    sums = np.bincount(rows.ravel(), flat, minlength=num_cells * len(rows))
    return sums.reshape(*cells.shape[:-1], num_cells)
