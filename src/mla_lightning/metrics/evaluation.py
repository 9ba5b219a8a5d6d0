"""Evaluation of all reported modalities from one pass over a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mla_lightning import ranks
from mla_lightning.metrics.by_task import EPOCH_METRICS
from mla_lightning.metrics.outcome import Outcome
from mla_lightning.run_folder.tasks import CLASSIFICATION

#: The metrics of classification.
_USUAL = EPOCH_METRICS[CLASSIFICATION]


class Evaluation:
    """Collects logits batch by batch and computes metrics once, over all samples.

    So metrics do not depend on how the split is cut into batches, and computing them once costs
    less than in every batch.

    Example:
        >>> evaluation = Evaluation(num_classes=2)
        >>> for index, label in ((0, 0), (1, 1)):
        ...     logits = {"multi": torch.tensor([[2.0, 0.0]])}
        ...     evaluation.add(logits, torch.tensor([label]), torch.tensor([index]))
        >>> evaluation.scores()["multi"]["acc"]
        0.5
    """

    def __init__(self, num_classes: int) -> None:
        """Start without samples.

        Args:
            num_classes: Number of classes C.
        """
        self.num_classes = num_classes
        self.reset()

    def reset(self) -> None:
        """Remove all samples."""
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
        """Add the samples of a batch.

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

    def gather(self) -> None:
        """Add the samples of the other ranks: then all ranks have the same ones."""
        if ranks.world_size() == 1:
            return
        index = ranks.gathered(torch.cat(self._indices))
        order = index.argsort(stable=True)
        # A rank without a sample of a small batch evaluates one that another rank has, too.
        is_first = torch.ones_like(order, dtype=torch.bool)
        is_first[1:] = index[order][1:] != index[order][:-1]
        rows = order[is_first]

        def joined(values: list[Tensor]) -> list[Tensor]:
            return [ranks.gathered(torch.cat(values))[rows]]

        self._logits = {name: joined(values) for name, values in self._logits.items()}
        self._present = {name: joined(values) for name, values in self._present.items()}
        self._labels, self._indices = joined(self._labels), [index[rows]]

    def arrays(self) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return all samples in the order of their numbers.

        Returns:
            Logits (N, C) by reported modality in float32, labels (N,), indices (N,), on the CPU.
        """
        index, label = torch.cat(self._indices), torch.cat(self._labels)
        logits = {name: torch.cat(values).float() for name, values in self._logits.items()}
        if not bool((index[1:] > index[:-1]).all()):  # those of evaluation loaders are in order
            order = index.argsort()
            index, label = index[order], label[order]
            logits = {name: values[order] for name, values in logits.items()}
        return {name: values.cpu() for name, values in logits.items()}, label.cpu(), index.cpu()

    def scores(
        self, metrics: Mapping[str, Callable[[Outcome], float | Tensor]] = _USUAL
    ) -> dict[str, dict[str, float]]:
        """Compute metrics of all samples.

        Args:
            metrics: Name -> metric.

        Returns:
            Reported modality -> metric -> value; see :func:`score_logits`.
        """
        logits, label, _ = self.arrays()
        return score_logits(logits, label, self.presence(), metrics)

    def presence(self) -> dict[str, Tensor]:
        """Return modality -> which samples have it (N,), in the order of their numbers.

        Returns:
            Modality -> (N,) bool, on the CPU; empty if nothing is missing.
        """
        if not self._present:
            return {}
        order = torch.cat(self._indices).argsort()
        return {name: torch.cat(has)[order].cpu() for name, has in self._present.items()}


def score_logits(
    logits: Mapping[str, Tensor],
    label: Tensor,
    present: Mapping[str, Tensor] | None = None,
    metrics: Mapping[str, Callable[[Outcome], float | Tensor]] = _USUAL,
) -> dict[str, dict[str, float]]:
    """Compute metrics of several modalities' logits, each on the samples that have the modality.

    Args:
        logits: Reported modality -> logits (N, C).
        label: Labels (N,).
        present: Modality -> (N,) bool; None if nothing is missing.
        metrics: Name -> metric.

    Returns:
        Reported modality -> metric -> value; NaN for a modality that no sample has.

    Example:
        >>> logits = {"audio": torch.tensor([[2.0, 0.0], [0.0, 1.0]])}
        >>> label = torch.tensor([0, 0])
        >>> score_logits(logits, label)["audio"]["acc"]
        0.5
        >>> score_logits(logits, label, {"audio": torch.tensor([True, False])})["audio"]["acc"]
        1.0
    """
    scores = {}
    for name, z in logits.items():
        rows = (present or {}).get(name)
        is_complete = rows is None or bool(rows.all())
        outcome = Outcome(z, label) if is_complete else Outcome(z[rows], label[rows])
        scores[name] = {
            metric: float(function(outcome)) if len(outcome.label) else math.nan
            for metric, function in metrics.items()
        }
    return scores
