"""Evaluation of all reported modalities from one pass that keeps the logits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
)


class Evaluation:
    """Collects logits batch by batch and computes metrics once, over all samples.

    Metrics of the whole set do not depend on how it was cut into batches, and one look at the end
    costs less than bookkeeping in every batch.
    """

    def __init__(self, num_classes: int) -> None:
        """Start empty.

        Args:
            num_classes: Number of classes C.
        """
        self.num_classes = num_classes
        self.reset()

    def reset(self) -> None:
        """Forget everything collected."""
        self._logits: dict[str, list[Tensor]] = {}
        self._labels: list[Tensor] = []
        self._indices: list[Tensor] = []

    def add(self, logits: Mapping[str, Tensor], label: Tensor, index: Tensor) -> None:
        """Collect one batch.

        Args:
            logits: Reported modality -> logits (B, C).
            label: Labels (B,).
            index: Sample numbers (B,).
        """
        for name, value in logits.items():
            self._logits.setdefault(name, []).append(value.detach())
        self._labels.append(label)
        self._indices.append(index)

    def arrays(self) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Join what was collected, in the order of the sample numbers.

        Returns:
            Logits (N, C) by reported modality in float32, labels (N,), indices (N,), on the CPU.
        """
        index = torch.cat(self._indices)
        order = index.argsort()
        logits = {k: torch.cat(v).float()[order].cpu() for k, v in self._logits.items()}
        return logits, torch.cat(self._labels)[order].cpu(), index[order].cpu()

    def metrics(self) -> dict[str, dict[str, float]]:
        """Compute the metrics of everything collected.

        Returns:
            Reported modality -> ``accuracy``, ``macro_f1``, ``ece``, see :func:`score_logits`.
        """
        logits, label, _ = self.arrays()
        return {name: score_logits(value, label) for name, value in logits.items()}


def score_logits(logits: Tensor, label: Tensor) -> dict[str, float]:
    """Score one set of logits.

    Args:
        logits: Logits (N, C).
        label: Labels (N,).

    Returns:
        ``accuracy`` (share of right answers), ``macro_f1`` (mean F1 over classes that occur),
        ``ece`` (expected calibration error, 15 equal-width bins), each in [0, 1].
    """
    num_classes = logits.shape[1]
    probabilities = logits.softmax(dim=1)
    return {
        "accuracy": multiclass_accuracy(
            logits, label, num_classes, average="micro", validate_args=False
        ).item(),
        "macro_f1": multiclass_f1_score(
            logits, label, num_classes, average="macro", validate_args=False
        ).item(),
        "ece": multiclass_calibration_error(
            probabilities, label, num_classes, n_bins=15, validate_args=False
        ).item(),
    }
