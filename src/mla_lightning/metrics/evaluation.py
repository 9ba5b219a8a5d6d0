"""Evaluation of all reported modalities from one pass that keeps the logits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_confusion_matrix,
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

    def metrics(self) -> dict[str, dict[str, float]]:
        """Compute the metrics of everything collected.

        Returns:
            Reported modality -> ``accuracy`` and others, see :func:`score_logits`.
        """
        logits, label, index = self.arrays()
        order = torch.cat(self._indices).argsort() if self._present else index
        present = {name: torch.cat(has)[order].cpu() for name, has in self._present.items()}
        return score_logits(logits, label, present)


def score_logits(
    logits: Mapping[str, Tensor], label: Tensor, present: Mapping[str, Tensor] | None = None
) -> dict[str, dict[str, float]]:
    """Score the logits of several modalities, each on the samples that have it.

    Args:
        logits: Reported modality -> logits (N, C).
        label: Labels (N,).
        present: Modality -> (N,) bool; None if nothing is missing.

    Returns:
        Reported modality -> ``accuracy`` (share of right answers), ``macro_f1`` (mean F1 over
        classes that occur or are answered), ``macro_recall`` (mean over classes that occur, of the
        share of their samples that is answered right), ``weighted_f1`` (F1 weighted by how often a
        class occurs), ``ece`` (expected calibration error of the answered class, 15 equal-width
        bins), each in [0, 1]; not a number for a modality that no sample has.
    """
    if present and not all(bool(has.all()) for has in present.values()):
        everything = torch.ones(len(label), dtype=torch.bool)
        rows = {name: present.get(name, everything) for name in logits}
        return {
            name: _scores({name: z[rows[name]]}, label[rows[name]])[name]
            for name, z in logits.items()
        }
    return _scores(logits, label)


def _scores(logits: Mapping[str, Tensor], label: Tensor) -> dict[str, dict[str, float]]:
    logits_MNC = torch.stack(list(logits.values()))
    best_MN, answer_MN = logits_MNC.max(dim=2)
    # The largest probability alone: a softmax over few classes costs five times as much.
    confidence_MN = 1.0 / (logits_MNC - best_MN[:, :, None]).exp_().sum(dim=2)
    is_right_MN = (answer_MN == label).long()
    num_classes = logits_MNC.shape[2]
    confusion_MCC = torch.stack(
        [
            multiclass_confusion_matrix(answer_N, label, num_classes, validate_args=False)
            for answer_N in answer_MN
        ]
    ).double()
    right_MC = confusion_MCC.diagonal(dim1=1, dim2=2)
    occurs_MC = confusion_MCC.sum(dim=2)  # rows are the true classes
    either_MC = confusion_MCC.sum(dim=1) + confusion_MCC.sum(dim=2)
    f1_MC = 2 * right_MC / either_MC  # not a number where a class is neither there nor answered
    columns = {
        "accuracy": right_MC.sum(dim=1) / len(label),
        "macro_f1": f1_MC.nanmean(dim=1),
        "macro_recall": (right_MC / occurs_MC).nanmean(dim=1),
        "weighted_f1": (f1_MC.nan_to_num() * occurs_MC).sum(dim=1) / len(label),
        "ece": torch.stack(
            [
                binary_calibration_error(*pair, n_bins=15, validate_args=False)
                for pair in zip(confidence_MN, is_right_MN, strict=True)
            ]
        ),
    }
    lists = {metric: values.tolist() for metric, values in columns.items()}
    return {
        name: {metric: values[row] for metric, values in lists.items()}
        for row, name in enumerate(logits)
    }
