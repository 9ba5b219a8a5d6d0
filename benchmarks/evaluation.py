"""P7: the bookkeeping of an evaluation, logits ready."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Row, interleaved
from mla_lightning.metrics.evaluation import Evaluation

SAMPLES, BATCH = 1000, 256
NAMES = ("multi", "audio", "visual")
Batches = Sequence[tuple[dict[str, Tensor], Tensor, Tensor]]
HOW = (
    f"Accuracy, macro F1 and calibration error of three sets of {SAMPLES} logits, collected in "
    f"batches of {BATCH}, against counting right answers of the same sample by sample, as the "
    "released codes do (accuracy only); medians of process CPU time"
)


def per_sample(batches: Batches, num_classes: int) -> dict[str, float]:
    """Count right answers in a loop over samples."""
    number = [0.0] * num_classes
    right = {name: [0.0] * num_classes for name in NAMES}
    for logits, label, _ in batches:
        probabilities = {name: logits[name].softmax(dim=1) for name in NAMES}
        for i in range(len(label)):
            answers = {name: np.argmax(probabilities[name][i].numpy()) for name in NAMES}
            number[label[i]] += 1.0
            for name in NAMES:
                if np.asarray(label[i]) == answers[name]:
                    right[name][label[i]] += 1.0
    return {name: sum(values) / sum(number) for name, values in right.items()}


def at_once(batches: Batches, num_classes: int) -> dict[str, dict[str, float]]:
    """Evaluate as validation does."""
    evaluation = Evaluation(num_classes)
    for logits, label, index in batches:
        evaluation.add(logits, label, index)
    return evaluation.metrics()


def measure() -> list[Row]:
    """Measure few classes, and many, where arithmetic on the logits outweighs bookkeeping."""
    torch.set_num_threads(1)
    rows = []
    for num_classes, limit in ((6, 1 / 20), (101, 1 / 10)):
        torch.manual_seed(0)
        logits = {name: torch.randn(SAMPLES, num_classes) for name in NAMES}
        label = torch.randint(num_classes, (SAMPLES,))
        index = torch.arange(SAMPLES)
        batches = [
            ({n: v[at : at + BATCH] for n, v in logits.items()}, label[at : at + BATCH], i)
            for at, i in zip(range(0, SAMPLES, BATCH), index.split(BATCH), strict=True)
        ]
        expected, found = per_sample(batches, num_classes), at_once(batches, num_classes)
        if any(abs(expected[name] - found[name]["accuracy"]) > 1e-6 for name in NAMES):
            raise RuntimeError(f"the two disagree: {expected}, {found}")
        seconds = interleaved(
            {
                "ours": lambda b=batches, c=num_classes: at_once(b, c),
                "loop": lambda b=batches, c=num_classes: per_sample(b, c),
            },
            41,
            warm=4,
        )
        detail = f"{seconds['loop'] * 1e3:.1f} → {seconds['ours'] * 1e3:.2f} ms"
        ratio = seconds["ours"] / seconds["loop"]
        what = f"evaluation / per-sample loop, {num_classes} classes"
        rows.append(Row("P7", what, ratio, limit, "x", HOW, detail))
    return rows
