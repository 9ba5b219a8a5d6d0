"""Evaluation of all reported modalities from one pass that keeps the logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mla_lightning.metrics.classification import EPOCH_METRICS
from mla_lightning.metrics.outcome import Outcome


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
        self._present: dict[str, list[Tensor]] = {}

    def add(
        self,
        logits: Mapping[str, Tensor],
        label: Tensor,
        index: Tensor,
        present: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Collect one batch.

        Args:
            logits: Reported modality -> logits (B, C).
            label: Labels (B,).
            index: Sample numbers (B,).
            present: Modality -> (B,) bool; None if nothing is missing.
        """
        for name, has in (present or {}).items():
            self._present.setdefault(name, []).append(has)
        for name, value in logits.items():
            self._logits.setdefault(name, []).append(value.detach())
        self._labels.append(label)
        self._indices.append(index)

    def arrays(self) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Join what was collected, in the order of the sample numbers.

        Returns:
            Logits (N, C) by reported modality in float32, labels (N,), indices (N,), on the CPU.
        """
        index, label = torch.cat(self._indices), torch.cat(self._labels)
        logits = {name: torch.cat(values).float() for name, values in self._logits.items()}
        if not bool((index[1:] > index[:-1]).all()):  # an evaluation loader's are in order
            order = index.argsort()
            index, label = index[order], label[order]
            logits = {name: values[order] for name, values in logits.items()}
        return {name: values.cpu() for name, values in logits.items()}, label.cpu(), index.cpu()

    def scores(
        self, metrics: Mapping[str, Callable[[Outcome], float | Tensor]] = EPOCH_METRICS
    ) -> dict[str, dict[str, float]]:
        """Compute metrics of everything collected.

        Args:
            metrics: Name -> metric.

        Returns:
            Reported modality -> metric -> value; see :func:`score_logits`.
        """
        logits, label, index = self.arrays()
        order = torch.cat(self._indices).argsort() if self._present else index
        present = {name: torch.cat(has)[order].cpu() for name, has in self._present.items()}
        return score_logits(logits, label, present, metrics)


def score_logits(
    logits: Mapping[str, Tensor],
    label: Tensor,
    present: Mapping[str, Tensor] | None = None,
    metrics: Mapping[str, Callable[[Outcome], float | Tensor]] = EPOCH_METRICS,
) -> dict[str, dict[str, float]]:
    """Score the logits of several modalities, each on the samples that have it.

    Args:
        logits: Reported modality -> logits (N, C).
        label: Labels (N,).
        present: Modality -> (N,) bool; None if nothing is missing.
        metrics: Name -> metric.

    Returns:
        Reported modality -> metric -> value; not a number for a modality that no sample has.

    Example:
        >>> logits = {"audio": torch.tensor([[2.0, 0.0], [0.0, 1.0]])}
        >>> score_logits(logits, torch.tensor([0, 0]))["audio"]["acc"]
        0.5
    """
    scores = {}
    for name, z in logits.items():
        rows = (present or {}).get(name)
        is_whole = rows is None or bool(rows.all())
        outcome = Outcome(z, label) if is_whole else Outcome(z[rows], label[rows])
        scores[name] = {
            metric: float(function(outcome)) if len(outcome.label) else math.nan
            for metric, function in metrics.items()
        }
    return scores
