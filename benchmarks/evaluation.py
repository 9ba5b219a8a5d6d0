"""P7: computing metrics from logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Measurement, median_seconds
from mla_lightning.metrics.evaluation import Evaluation

NUM_SAMPLES, BATCH_SIZE = 1000, 256
NAMES = ("multi", "audio", "visual")
Batches = Sequence[tuple[dict[str, Tensor], Tensor, Tensor]]
PROCEDURE = (
    f"Accuracy, macro F1 and calibration error of three sets of {NUM_SAMPLES} logits, collected in "
    f"batches of {BATCH_SIZE}, against counting correct predictions of the same sample by sample, "
    "as the released codes do (accuracy only); medians of process CPU time"
)


def per_sample_accuracy(batches: Batches, num_classes: int) -> dict[str, float]:
    """Count correct predictions in a loop over samples."""
    total = [0.0] * num_classes
    correct = {name: [0.0] * num_classes for name in NAMES}
    for logits, label, _ in batches:
        probabilities = {name: logits[name].softmax(dim=1) for name in NAMES}
        for i in range(len(label)):
            predictions = {name: np.argmax(probabilities[name][i].numpy()) for name in NAMES}
            total[label[i]] += 1.0
            for name in NAMES:
                if np.asarray(label[i]) == predictions[name]:
                    correct[name][label[i]] += 1.0
    return {name: sum(values) / sum(total) for name, values in correct.items()}


def evaluate(batches: Batches, num_classes: int) -> dict[str, dict[str, float]]:
    """Compute all metrics at once, as validation does."""
    evaluation = Evaluation(num_classes)
    for logits, label, index in batches:
        evaluation.add(logits, label, index)
    return evaluation.scores()


def draw_batches(num_classes: int) -> Batches:
    """Draw batches of logits by name, labels and sample numbers."""
    torch.manual_seed(0)
    logits = {name: torch.randn(NUM_SAMPLES, num_classes) for name in NAMES}
    label = torch.randint(num_classes, (NUM_SAMPLES,))
    return [
        ({name: values[rows] for name, values in logits.items()}, label[rows], rows)
        for rows in torch.arange(NUM_SAMPLES).split(BATCH_SIZE)
    ]


def measure() -> list[Measurement]:
    """Measure few classes, and many, where arithmetic takes longer than bookkeeping."""
    torch.set_num_threads(1)
    return [measure_classes(6, 1 / 20), measure_classes(101, 1 / 10)]


def measure_classes(num_classes: int, target: float, rounds: int = 41) -> Measurement:
    """Measure with a number of classes.

    Raises:
        RuntimeError: If the two ways compute different accuracies.
    """
    batches = draw_batches(num_classes)
    expected, scores = per_sample_accuracy(batches, num_classes), evaluate(batches, num_classes)
    if any(abs(expected[name] - scores[name]["acc"]) > 1e-6 for name in NAMES):
        raise RuntimeError(f"the two ways disagree: {expected}, {scores}")
    seconds = median_seconds(
        {
            "at once": lambda: evaluate(batches, num_classes),
            "loop": lambda: per_sample_accuracy(batches, num_classes),
        },
        rounds,
        warmup_rounds=4,
    )
    title = f"evaluation / per-sample loop, {num_classes} classes"
    detail = f"{seconds['loop'] * 1e3:.1f} → {seconds['at once'] * 1e3:.2f} ms"
    ratio = seconds["at once"] / seconds["loop"]
    return Measurement("P7", title, ratio, target, "x", PROCEDURE, detail)
