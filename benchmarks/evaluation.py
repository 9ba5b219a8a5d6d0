"""P7: computing metrics from logits."""

from __future__ import annotations

import resource
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Measurement, call_in_new_process, cpu_clock, median_seconds
from benchmarks.memory import resident_mb
from mla_lightning.metrics.evaluation import Evaluation

NUM_SAMPLES, BATCH_SIZE = 1000, 256
NAMES = ("multi", "audio", "visual")
Batches = Sequence[tuple[dict[str, Tensor], Tensor, Tensor]]
PROCEDURE = (
    f"Accuracy, macro F1 and calibration error of three sets of {NUM_SAMPLES} logits, collected in "
    f"batches of {BATCH_SIZE}, against counting correct predictions of the same sample by sample, "
    "as the released codes do (accuracy only); medians of process CPU time, ten calls in a row"
)
MANY_SAMPLES, MANY_CLASSES = 20_000, 1000
PROCEDURE_MANY = (
    f"Accuracy, macro F1 and calibration error of one set of {MANY_SAMPLES} logits of "
    f"{MANY_CLASSES} classes, collected in batches of {BATCH_SIZE}, in a new process with "
    "deterministic algorithms: process CPU time of the second call, and the peak resident "
    "memory less that before the first, which includes a copy of the logits (80 MB)"
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


def draw_batches(
    num_classes: int, num_samples: int = NUM_SAMPLES, names: Sequence[str] = NAMES
) -> Batches:
    """Draw batches of logits by name, labels and sample numbers."""
    torch.manual_seed(0)
    logits = {name: torch.randn(num_samples, num_classes) for name in names}
    label = torch.randint(num_classes, (num_samples,))
    return [
        ({name: values[rows] for name, values in logits.items()}, label[rows], rows)
        for rows in torch.arange(num_samples).split(BATCH_SIZE)
    ]


def measure() -> list[Measurement]:
    """Measure few classes, and many, where arithmetic takes longer than bookkeeping."""
    torch.set_num_threads(1)
    seconds, memory = call_in_new_process("evaluation.cost", MANY_SAMPLES, MANY_CLASSES)
    title = f"evaluation, {MANY_SAMPLES} samples x {MANY_CLASSES} classes"
    return [
        measure_classes(6, 1 / 20),
        measure_classes(101, 1 / 20),
        Measurement("P7", title, seconds, 0.5, "s", PROCEDURE_MANY),
        Measurement("P7", f"{title}, memory", memory, 500, "MB", PROCEDURE_MANY),
    ]


def cost(num_samples: int, num_classes: int) -> tuple[float, float]:
    """Return the CPU seconds and the additional peak memory in MB of an evaluation."""
    torch.use_deterministic_algorithms(True)
    evaluate(draw_batches(2, 10, ["multi"]), 2)  # imports
    batches = draw_batches(num_classes, num_samples, ["multi"])
    before = resident_mb()
    evaluate(batches, num_classes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = cpu_clock()
    evaluate(batches, num_classes)
    return cpu_clock() - start, max(peak - before, 0.0)  # the system counts pages in batches


def measure_classes(num_classes: int, target: float, rounds: int = 15) -> Measurement:
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
        calls=10,
    )
    title = f"evaluation / per-sample loop, {num_classes} classes"
    detail = f"{seconds['loop'] * 1e3:.1f} → {seconds['at once'] * 1e3:.2f} ms"
    ratio = seconds["at once"] / seconds["loop"]
    return Measurement("P7", title, ratio, target, "x", PROCEDURE, detail)
